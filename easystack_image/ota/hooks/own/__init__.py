"""Our own hooks."""
