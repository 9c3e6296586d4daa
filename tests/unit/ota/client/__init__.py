"""Tests of easystack_image.ota.client."""
