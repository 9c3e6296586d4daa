"""Tests of the local engine, module by module."""
