"""What the soak itself must be able to do."""
