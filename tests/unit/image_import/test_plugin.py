"""The import plugin in a flow like Glance's, run by taskflow.

What it does within Glance is in tests/content.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
import sys
import types
from typing import Any
import unittest.mock

import fixtures
import glance_store
from oslo_config import cfg
from taskflow import engines
from taskflow import task
from taskflow.patterns import linear_flow
import testtools

from easystack_image import exceptions
from easystack_image.image_import import plugin
from tests.corpus import formats

IMAGE = '70b31a50-0d3f-4d1f-a3ee-9c3f7d5ea1a8'
ERROR = 'easystack_content_error'


class UploadException(Exception):
    """Glance's, which the message of a task is taken from."""


class Image:
    """An image that is being imported, and what an import may do to it."""

    def __init__(self, **attributes: Any) -> None:
        self.disk_format = 'raw'
        self.container_format = 'bare'
        self.min_disk = 0
        self.status = 'importing'
        self.size: int | None = 5
        self.virtual_size: int | None = None
        self.extra_properties: dict[str, Any] = {
            'os_glance_importing_to_stores': 'a,b'}
        vars(self).update(attributes)

    # As Glance's ImportActionWrapper.
    def __enter__(self) -> Image:
        return self

    def __exit__(self, *args: object) -> None:
        pass

    def set_image_attribute(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def set_image_extra_properties(self, properties: dict[str, Any]) -> None:
        self.extra_properties.update(properties)

    def pop_extra_property(self, name: str) -> None:
        self.extra_properties.pop(name, None)

    def remove_importing_stores(self, stores: list[str]) -> None:
        self.extra_properties['os_glance_importing_to_stores'] = ''

    def add_failed_stores(self, stores: list[str]) -> None:
        self.extra_properties['os_glance_failed_import'] = ','.join(stores)


class Later(task.Task):
    """What comes behind the plugin: a store."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__()
        self.error = error
        self.ran = False

    def execute(self) -> None:
        self.ran = True
        if self.error:
            raise self.error


class PluginTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        root = Path(self.useFixture(fixtures.TempDir()).path)
        self.path = root / IMAGE
        self.deleted: list[tuple[str, str]] = []
        self.useFixture(fixtures.MockPatchObject(
            glance_store, 'delete',
            lambda url, store: self.deleted.append((url, store))))
        common = types.ModuleType('glance.common')
        common.exception = types.SimpleNamespace(  # type: ignore
            UploadException=UploadException)
        self.put_module('glance', types.ModuleType('glance'))
        self.put_module('glance.common', common)
        conf = cfg.ConfigOpts()
        conf([], default_config_files=[], default_config_dirs=[])
        self.useFixture(fixtures.MockPatchObject(plugin.cfg, 'CONF', conf))

    def put_module(self, name: str, module: types.ModuleType | None) -> None:
        """Let a module be imported during this test, or none."""
        before = sys.modules.get(name)
        sys.modules[name] = module  # type: ignore
        self.addCleanup(
            sys.modules.pop if before is None else sys.modules.__setitem__,
            name, *([] if before is None else [before]))

    def run_flow(self, image: Image, data: bytes,
                 method: str = 'glance-direct',
                 error: Exception | None = None) -> Later:
        """Import an image, as far as the plugin and one task more."""
        self.path.write_bytes(data)
        images = unittest.mock.Mock()
        images.get.return_value = image
        later = Later(error)
        flow = linear_flow.Flow('import').add(plugin.get_flow(
            task_id='1', task_type='api_image_import', image_id=IMAGE,
            image_repo=images, action_wrapper=image, backend=['a', 'b'],
            import_req={'method': {'name': method}}), later)
        engines.run(flow, store={'file_path': f'file://{self.path}'})
        return later

    def check_ready_again(self, image: Image) -> None:
        self.assertEqual(('queued', None, None), (
            image.status, image.size, image.virtual_size))
        self.assertEqual('', image.extra_properties[
            'os_glance_importing_to_stores'])

    def test_good(self) -> None:
        image = Image(disk_format='qcow2')
        image.extra_properties[ERROR] = 'of the last attempt'
        self.assertTrue(self.run_flow(image, formats.qcow2()).ran)
        self.assertEqual(('importing', 5, 1 << 30), (
            image.status, image.size, image.virtual_size))
        self.assertNotIn(ERROR, image.extra_properties)
        self.assertEqual([], self.deleted)

    def test_refused(self) -> None:
        for method, deleted in (('glance-direct', 1), ('web-download', 0),
                                ('glance-download', 0)):
            self.deleted.clear()
            image = Image()
            error = self.assertRaises(UploadException, self.run_flow, image,
                                      formats.qcow2(), method)
            self.assertIn('is qcow2', str(error))
            # What Glance has downloaded, it makes queued, and stumbles if it
            # is already.
            self.assertEqual('queued' if deleted else 'importing',
                             image.status)
            image.status = 'queued'
            self.check_ready_again(image)
            self.assertIn('is qcow2', image.extra_properties[ERROR])
            self.assertEqual('a,b', image.extra_properties[
                'os_glance_failed_import'])
            # What Glance has downloaded, it deletes itself.
            self.assertEqual(
                [(f'file://{self.path}', 'os_glance_staging_store')]
                * deleted, self.deleted)

    def test_other_declarations_count(self) -> None:
        for image in (Image(container_format='ova'), Image(
                disk_format='iso'), Image(extra_properties={
                    'easystack_expected_hash': 'sha256:' + 'a' * 64})):
            self.assertRaises(UploadException, self.run_flow, image, b'data')
            self.check_ready_again(image)

    def test_something_later_fails(self) -> None:
        image = Image()
        self.assertRaises(ZeroDivisionError, self.run_flow, image, b'data',
                          error=ZeroDivisionError('/srv/secret'))
        self.check_ready_again(image)
        # Not for users.
        self.assertNotIn('secret', image.extra_properties[ERROR])
        self.assertEqual(1, len(self.deleted))

    def test_announced_checksum(self) -> None:
        """It goes with the data, and stays for other data to come."""
        name, announced = 'easystack_expected_hash', 'sha256:' + (
            hashlib.sha256(b'data').hexdigest())
        image = Image(extra_properties={name: announced})
        self.run_flow(image, b'data')
        self.assertNotIn(name, image.extra_properties)
        image = Image(extra_properties={name: announced})
        for data, kind in ((b'data', ZeroDivisionError),
                           (b'else', UploadException)):
            self.assertRaises(kind, self.run_flow, image, data,
                              error=ZeroDivisionError())
            self.assertEqual(announced, image.extra_properties[name])

    def test_staged_data_that_are_gone(self) -> None:
        self.useFixture(fixtures.MockPatchObject(
            glance_store, 'delete',
            unittest.mock.Mock(side_effect=glance_store.NotFound)))
        image = Image()
        self.assertRaises(UploadException, self.run_flow, image,
                          formats.qcow2())
        self.check_ready_again(image)

    def test_outside_of_glance(self) -> None:
        for name in ('glance', 'glance.common'):
            self.put_module(name, None)
        image = Image()
        self.assertRaises(exceptions.ConfigurationError, self.run_flow,
                          image, formats.qcow2())
        self.check_ready_again(image)
