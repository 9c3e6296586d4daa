"""What is done in each step, by itself; hooks do more.

Each may be done again, by another process, after it was cut short anywhere.
It returns what the journal should have of it.
"""
