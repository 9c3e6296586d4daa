"""Images of real programs, and what the gate makes of them."""

from __future__ import annotations

import json
from pathlib import Path
import subprocess

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.content import declaration
from easystack_image.content import rules
from easystack_image.content import staged
from tests.content import prerequisites
from tests.corpus import good


class GoodImagesTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.useFixture(fixtures.TempDir()).path)

    def check(self, path: Path, disk_format: str, **properties: str) -> int:
        """Judge an image; return its virtual size."""
        declared = declaration.of_image({
            'disk_format': disk_format, 'container_format': 'bare'}
            | properties)
        found = staged.check(str(path), declared, rules.Rules())
        self.assertEqual(disk_format, found.disk_format)
        return found.virtual_size or 0

    def test_qcow2(self) -> None:
        names = set()
        for name, path in good.qcow2_images(self.root):
            names.add(name)
            self.assertEqual(self.virtual_size(path),
                             self.check(path, 'qcow2'), name)
        self.assertGreater(len(names), len(good.QCOW2_OPTIONS))

    @staticmethod
    def virtual_size(path: Path) -> int:
        """Return what qemu-img says of an image."""
        shown = subprocess.run(
            ['qemu-img', 'info', '--output=json', path], check=True,
            capture_output=True, timeout=60).stdout
        size: int = json.loads(shown)['virtual-size']
        return size

    def test_raw(self) -> None:
        for _, path in good.raw_images(self.root):
            self.assertEqual(path.stat().st_size, self.check(path, 'raw'))

    def test_isos(self) -> None:
        for package, path in prerequisites.ISOS.items():
            for kind in ('qemu', 'baremetal'):
                size = self.check(path, 'iso', hypervisor_type=kind)
                self.assertGreaterEqual(size, path.stat().st_size, package)

    def test_extended_l2(self) -> None:
        """The one kind of good ones that Glance refuses as well."""
        path = self.root / 'extended.qcow2'
        good.qemu_img('create', '-q', '-f', 'qcow2', '-o', 'extended_l2=on',
                      path, '64M')
        self.assertRaises(exceptions.ContentRefused, self.check, path,
                          'qcow2')

    def test_of_real_programs_in_raw_clothes(self) -> None:
        for kind in ('qcow2', 'qcow', 'qed', 'vmdk', 'vpc', 'vhdx', 'vdi',
                     'parallels'):
            path = self.root / f'image.{kind}'
            good.qemu_img('create', '-q', '-f', kind, path, '64M')
            self.assertRaises(exceptions.ContentRefused, self.check, path,
                              'raw')
        for subformat in ('monolithicFlat', 'twoGbMaxExtentSparse',
                          'streamOptimized'):
            path = self.root / f'{subformat}.vmdk'
            good.qemu_img('create', '-q', '-f', 'vmdk', '-o',
                          f'subformat={subformat}', path, '64M')
            self.assertRaises(exceptions.ContentRefused, self.check, path,
                              'raw')

    def test_with_a_backing_file(self) -> None:
        base = self.root / 'base.qcow2'
        good.qemu_img('create', '-q', '-f', 'qcow2', base, '64M')
        for name in (str(base), 'json:{"driver":"raw","file.filename":"'
                     f'{base}"}}'):
            path = self.root / 'overlay.qcow2'
            good.qemu_img('create', '-q', '-f', 'qcow2', '-u', '-b', name,
                          '-F', 'qcow2', path, '64M')
            self.assertRaises(exceptions.ContentRefused, self.check, path,
                              'qcow2')
        path = self.root / 'data.qcow2'
        good.qemu_img('create', '-q', '-f', 'qcow2', '-o',
                      f'data_file={self.root / "data"}', path, '64M')
        self.assertRaises(exceptions.ContentRefused, self.check, path,
                          'qcow2')
