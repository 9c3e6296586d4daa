"""The glance_store driver, with a real engine on temporary directories."""
