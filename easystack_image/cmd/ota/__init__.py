"""``easystack-image-ota``, which runs where nothing but tuf is installed."""
