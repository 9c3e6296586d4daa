"""The journal of upgrades: what was begun and what was done, durably."""
