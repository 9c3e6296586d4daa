"""What Glance's import flow runs of this package."""
