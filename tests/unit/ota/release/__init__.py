"""Tests of easystack_image.ota.release."""
