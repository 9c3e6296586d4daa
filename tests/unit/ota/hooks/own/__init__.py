"""Tests of our own hooks."""
