"""Instances, what is counted of them, and what is seen of them."""
