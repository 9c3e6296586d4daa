"""The content gate before a real Glance, with images of real programs.

``prerequisites`` tells what this needs; ``fuzz`` sends images at random.
"""
