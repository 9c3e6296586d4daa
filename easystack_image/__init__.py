"""Replicated images, protected properties and OTA upgrades for Glance."""
