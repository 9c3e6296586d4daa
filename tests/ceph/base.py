"""What the tests on a Ceph cluster have in common."""

from __future__ import annotations

import os
from pathlib import Path

import fixtures
import testtools

from tests.ceph import cluster as cluster_module


class TestCase(testtools.TestCase):
    """A test with a time limit, on the cluster that all of them share.

    A test that harms the cluster mends it with ``addCleanup``.
    """

    cluster: cluster_module.Cluster

    def setUp(self) -> None:
        super().setUp()
        # It may have to be started first.
        self.cluster = cluster_module.shared()
        timeout = int(os.environ.get('OS_TEST_TIMEOUT', 0))
        if timeout:
            self.useFixture(fixtures.Timeout(timeout, gentle=True))

    def temporary_directory(self) -> Path:
        """Return a new directory of this test."""
        return Path(self.useFixture(fixtures.TempDir()).path)
