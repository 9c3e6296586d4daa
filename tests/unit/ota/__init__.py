"""Releases, the client, slots and the journal."""
