"""Over the air, for real: uWSGI, Glance, upgrades under load."""
