"""Options, and what the installed distribution announces."""
