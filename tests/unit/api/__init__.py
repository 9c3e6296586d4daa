"""What the image API promises, without any service."""
