"""The glance_store driver ``easystack_block``."""
