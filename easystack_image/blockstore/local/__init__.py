"""The embedded engine: copies on the devices of this machine."""
