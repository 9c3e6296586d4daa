"""Tests of easystack_image.ota.slots."""
