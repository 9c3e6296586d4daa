"""What image data may be, and where they may come from."""
