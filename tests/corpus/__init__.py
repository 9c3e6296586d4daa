"""Images that must be refused, and images that must not, made on the spot."""
