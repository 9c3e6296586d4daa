"""What the image API promises: requests judged, answers shaped.

Knows the HTTP API of Glance and the one that is promised beyond it; knows
neither Glance's code nor WSGI.
"""
