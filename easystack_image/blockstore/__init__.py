"""The replicated block store: engines that keep images in several copies.

Usable, and tested, without Glance.
"""
