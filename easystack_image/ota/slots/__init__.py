"""Slots: the places where releases are installed, each in one of its own."""
