"""The public suites, against Glance as it comes and against it with ours.

``suite`` runs tempest and tells what became of each test; ``verdict``
compares two such runs; ``__main__`` brings the servers up and prints.
"""
