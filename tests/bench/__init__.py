"""The benchmark: what three verified copies cost, next to one plain file.

Run as ``tox -e bench`` or ``python -m tests.bench``.  It compares stores,
not machines: every figure that matters is a ratio between measurements of
one run, taken in turn on the same disk.
"""
