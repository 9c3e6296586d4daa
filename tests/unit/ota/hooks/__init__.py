"""Tests of the hooks of upgrades."""
