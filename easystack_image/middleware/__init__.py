"""What stands in Glance's pipeline, or answers beside it."""
