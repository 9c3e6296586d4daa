"""The catalogue, and what is made of requests with it."""
