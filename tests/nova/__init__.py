"""What Nova makes of images: its own objects and filter, from PyPI."""
