"""Processes killed at every step, lost power, and damage of every kind."""
