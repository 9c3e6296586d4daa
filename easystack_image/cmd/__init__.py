"""The commands: they parse, print and exit; the rooms below decide."""
