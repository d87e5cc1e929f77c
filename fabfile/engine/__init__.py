"""The only side that acts: plans in, outcomes out."""
