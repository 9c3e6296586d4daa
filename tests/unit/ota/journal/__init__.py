"""Tests of easystack_image.ota.journal."""
