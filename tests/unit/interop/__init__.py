"""Tests of how two runs of the public suites are compared."""
