"""Tests that need no service; they mirror the package."""
