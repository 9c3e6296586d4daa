"""The command line, run as operators and their scripts run it."""
