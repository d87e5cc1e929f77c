HEADLINE = "Free delivery within walking distance, all January."
