"""What takes one server out of a load balancer's rotation and brings it back."""
