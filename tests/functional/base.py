"""What the functional tests have in common."""

from __future__ import annotations

import os
from pathlib import Path
import shutil
import tempfile
from typing import Any, ClassVar
import unittest

import fixtures
import testtools
from testtools import content as attachments

from tests.functional import client
from tests.functional import server

#: Tests that need many clients at once need a database that bears them.
ON_MARIADB = os.environ.get('EASYSTACK_TEST_DATABASE') == 'mariadb'

needs_mariadb = unittest.skipUnless(
    ON_MARIADB, 'several clients at once: "tox -e functional-mariadb"')


class TestCase(testtools.TestCase):
    """A test with a time limit and a directory that goes when it ends."""

    #: The calls of the client; each test case says whom it talks to.
    images: client.Images

    @classmethod
    def make_store(cls, name: str, root: Path,
                   **options: object) -> server.Store:
        """Return a store of this package's driver.

        Tests that are not about devices use this, so that they can be run
        with other engines.

        :param root: an existing directory for what it keeps
        :param options: without their prefix
        """
        return server.block_store(name, server.make_devices(root), **options)

    def setUp(self) -> None:
        super().setUp()
        timeout = int(os.environ.get('OS_TEST_TIMEOUT', 0))
        if timeout:
            self.useFixture(fixtures.Timeout(timeout, gentle=True))

    def temporary_directory(self) -> Path:
        """Return a new directory of this test."""
        return Path(self.useFixture(fixtures.TempDir()).path)

    def show_log_of(self, glance: server.Glance) -> None:
        """Attach the end of Glance's log if this test fails."""
        def attach(exc_info: object) -> None:
            del exc_info
            self.addDetail('glance-api.log', attachments.text_content(
                glance.log_tail(120)))

        self.addOnException(attach)

    def check_image(self, image_id: str, data: bytes) -> None:
        """Compare the bytes, and what Glance says of them."""
        record = self.images.show(image_id)
        self.assertEqual('active', record['status'])
        self.assertEqual(len(data), record['size'])
        self.assertEqual('sha512', record['os_hash_algo'])
        self.assertEqual(client.sha512(data), record['os_hash_value'])
        self.assertEqual(client.md5(data), record['checksum'])
        self.assertEqual(client.sha512(data),
                         client.sha512(self.images.download(image_id)))

    def start_glance(self, *stores: server.Store, init: bool = True,
                     **arguments: Any) -> server.Glance:
        """Run a Glance for this one test.

        :param init: prepare the stores' devices
        :param arguments: of :class:`server.Glance`
        """
        glance = server.Glance(self.temporary_directory(), stores,
                               **arguments)
        self.show_log_of(glance)
        glance.prepare()
        if init:
            glance.init_devices()
        self.addCleanup(glance.stop)
        glance.start()
        return glance


class SharedGlanceCase(TestCase):
    """Tests that share one Glance, because they leave it as it was."""

    glance: ClassVar[server.Glance]
    root: ClassVar[Path]

    @classmethod
    def make_glance(cls) -> server.Glance:
        """Return the Glance to share; its root is ``cls.root``."""
        raise NotImplementedError

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.root = Path(tempfile.mkdtemp(prefix='functional-'))
        cls.addClassCleanup(shutil.rmtree, cls.root)
        cls.glance = cls.make_glance()
        cls.glance.prepare()
        cls.glance.init_devices()
        cls.addClassCleanup(cls.glance.stop)
        cls.glance.start()

    def setUp(self) -> None:
        super().setUp()
        self.show_log_of(self.glance)
        self.images = client.Images(self.glance.url)
