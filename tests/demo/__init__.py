"""The demonstration: an image survives damage ("tox -e demo")."""
