"""Tests on a real Ceph cluster on 127.0.0.1.

``cluster`` runs it, ``prerequisites`` says what the machine must have.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
import unittest


def load_tests(loader: unittest.TestLoader, tests: unittest.TestSuite,
               pattern: str | None) -> unittest.TestSuite:
    """Find no tests where they cannot be imported.

    Whoever runs other tests from the same tree, where Ceph's modules are
    not installed, finds these too: discovery imports all modules.  ``tox -e
    ceph`` makes sure beforehand that they are there.
    """
    if importlib.util.find_spec('rados') and importlib.util.find_spec('rbd'):
        tests.addTests(loader.discover(
            str(Path(__file__).parent), pattern or 'test*.py',
            str(Path(__file__).parents[2])))
    return tests
