"""The parts of an upgrade, each by itself."""
