"""Releases: what is in one, and the repository that they are signed in."""
