"""Images that are refused, and small ones that are not."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies
import testtools

from easystack_image import exceptions
from easystack_image.content import declaration
from easystack_image.content import inspection
from easystack_image.content import rules
from tests.corpus import bad
from tests.corpus import formats
from tests.corpus.formats import GIB
from tests.corpus.formats import KIB

#: Those that good images have, those on which parsers stumble, and any.
NUMBERS32 = strategies.one_of(
    strategies.sampled_from([0, 1, 2, 4, 64, 104, 112, 4096]),
    strategies.integers(0, (1 << 32) - 1))
NUMBERS64 = strategies.one_of(
    strategies.sampled_from([0, 1, 4, 8, 1 << 16, 3 << 16, GIB, 1 << 63]),
    strategies.integers(0, (1 << 64) - 1))
ALL_FORMATS = frozenset({'raw', 'qcow2', 'iso', 'vmdk', 'vdi', 'vhd', 'vhdx',
                         'aki', 'ami', 'ari', 'ploop', 'luks', 'gpt'})


def inspect(data: bytes, disk_format: str, size: int | None = None,
            allowed: rules.Rules | None = None,
            **properties: Any) -> inspection.Findings:
    """Judge an image as the gate does."""
    declared = declaration.of_image({
        'disk_format': disk_format, 'container_format': 'bare'} | properties)
    return inspection.inspect(data[:inspection.HEAD_SIZE], declared,
                              allowed or rules.Rules(),
                              len(data) if size is None else size)


class BadImagesTest(testtools.TestCase):

    def test_corpus(self) -> None:
        corpus = bad.corpus()
        self.assertGreaterEqual(len(corpus), 40)
        self.assertEqual(len(corpus), len({each.name for each in corpus}))
        for each in corpus:
            error = self.assertRaises(
                exceptions.ContentError, self._inspect, each)
            self.assertTrue(re.search(each.why, str(error)),
                            f'{each.name}: {error}')

    @staticmethod
    def _inspect(each: bad.Bad) -> None:
        found = inspect(each.data, each.disk_format, **each.properties)
        raise AssertionError(f'{each.name}: taken for {found}')

    def test_whatever_is_allowed(self) -> None:
        """Nothing but the last two hangs on what formats are allowed."""
        allowed = rules.Rules(disk_formats=ALL_FORMATS, container_formats=
                              frozenset({'bare', 'ova'}))
        for each in bad.corpus()[:-2]:
            self.assertRaises(exceptions.ContentError, inspect, each.data,
                              each.disk_format, allowed=allowed,
                              **each.properties)

    def test_in_any_container(self) -> None:
        allowed = rules.Rules(container_formats=frozenset({'docker'}))
        for each in bad.corpus()[:-2]:
            self.assertRaises(
                exceptions.ContentError, inspect, each.data,
                each.disk_format, allowed=allowed,
                **each.properties | {'container_format': 'docker'})

    def test_nothing_declared(self) -> None:
        for missing in ('disk_format', 'container_format'):
            self.assertRaises(exceptions.ContentRefused,
                              declaration.of_image, {
                                  'disk_format': 'raw',
                                  'container_format': 'bare'} | {
                                      missing: None})

    def test_errors_repeat_nothing_of_the_image(self) -> None:
        """What it holds may be long, or no text."""
        for each in bad.corpus():
            error = self.assertRaises(exceptions.ContentError, inspect,
                                      each.data, each.disk_format,
                                      **each.properties)
            self.assertLess(len(str(error)), 300, each.name)
            self.assertTrue(str(error).isascii(), each.name)


class GoodImagesTest(testtools.TestCase):

    def test_raw(self) -> None:
        for data in (b'\0', b'data', b'\0' * 512, bytes(KIB * 100),
                     b'# a script\necho version\n', b'version 1\n',
                     formats.disk(formats.partition(boot=0x80)),
                     formats.disk(formats.PROTECTIVE),
                     # A FAT file system looks a little like a disk.
                     formats.starting(b'\xeb\x58\x90mkfs.fat' + bytes(5)
                                      + b'\x02' + bytes(4) + b'\xf8')):
            self.assertEqual(inspection.Findings('raw', len(data)),
                             inspect(data, 'raw'))

    def test_raw_of_unknown_size(self) -> None:
        declared = declaration.Declaration('raw')
        head = bytes(inspection.HEAD_SIZE)
        self.assertEqual(
            inspection.Findings('raw', None),
            inspection.inspect(head, declared, rules.Rules(), None))

    def test_nothing(self) -> None:
        """Whatever has a header has some, unless the data are elsewhere."""
        for disk_format in ('raw', 'qcow2', 'iso'):
            self.assertEqual(
                inspection.Findings(disk_format, 0),
                inspect(b'', disk_format, block_device_mapping='[{}]'))
        self.assertEqual(inspection.Findings('raw', 0), inspect(b'', 'raw'))
        for disk_format in ('qcow2', 'iso'):
            for mapping in (None, '', []):
                error = self.assertRaises(
                    exceptions.NoContent, inspect, b'', disk_format,
                    block_device_mapping=mapping)
                self.assertIn('block_device_mapping', str(error))

    def test_qcow2(self) -> None:
        for fields in (
                {}, {'version': 2}, {'features': 1}, {'size': 0},
                {'encryption': 2}, {'features': 8, 'compression': 1},
                {'cluster_bits': 9, 'size': 1 << 20, 'l1_entries': 32,
                 'l1_offset': 512 * 9, 'refcount_offset': 512},
                {'length': 104}, {'snapshots': 3},
                {'extensions': ((0x6803F857, bytes(384)),)},
                # The largest that is allowed.
                {'size': 2048 * GIB, 'l1_entries': 4096}):
            data = formats.qcow2(**fields)
            self.assertEqual(
                inspection.Findings('qcow2', fields.get('size', GIB)),
                inspect(data, 'qcow2'), fields)

    def test_iso(self) -> None:
        for data in (formats.iso(), formats.iso(bootable=True),
                     formats.iso(formats.mbr(formats.partition())),
                     formats.iso(formats.mbr(formats.partition(boot=0x42))),
                     formats.iso(identifier=b'NSR03')):
            self.assertEqual(inspection.Findings('iso', len(data)),
                             inspect(data, 'iso'))

    def test_iso_for_bare_metal(self) -> None:
        for name in ('hypervisor_type', 'img_hv_type'):
            for kind in ('baremetal', 'Baremetal', 'bare metal'):
                inspect(formats.iso(bootable=True), 'iso', **{name: kind})
                self.assertRaises(exceptions.ContentRefused, inspect,
                                  formats.iso(), 'iso', **{name: kind})
            inspect(formats.iso(), 'iso', **{name: 'qemu'})
        inspect(formats.iso(), 'iso', hypervisor_type='baremetal',
                allowed=rules.Rules(bare_metal_iso_boots=False))

    def test_min_disk(self) -> None:
        inspect(b'x', 'raw', size=GIB, min_disk=1)
        inspect(formats.qcow2(), 'qcow2', min_disk=1)
        head = bytes(inspection.HEAD_SIZE)
        error = self.assertRaises(exceptions.ContentTooLarge, inspect, head,
                                  'raw', size=GIB + 1, min_disk=1)
        self.assertIn('set min_disk to 2 or more', str(error))
        inspect(head, 'raw', size=GIB + 1, min_disk=1,
                allowed=rules.Rules(check_min_disk=False))

    def test_other_formats_that_are_allowed(self) -> None:
        allowed = rules.Rules(disk_formats=ALL_FORMATS)
        for name, data in (('vdi', formats.vdi()),
                           ('vmdk', formats.vmdk_sparse()),
                           ('ami', b'data'), ('aki', b'data'),
                           ('ploop', b'data'),
                           ('aki', formats.disk(code=b'kernel'))):
            inspect(data, name, allowed=allowed)
        for name, data in (('vdi', formats.vmdk_sparse()),
                           ('vmdk', formats.vmdk_text()),
                           ('vmdk', formats.starting(b'KDMV')),
                           ('vmdk', formats.starting(b'COWD')),
                           ('luks', b'LUKS\xba\xbe'),
                           ('vmdk', b'version=1\n'
                            b'createType="monolithicSparse"\n'
                            b'RW 8 SPARSE "x"\n'),
                           ('ami', formats.qcow2()), ('aki', formats.vdi()),
                           ('ami', formats.disk(code=b'kernel'))):
            self.assertRaises(exceptions.ContentRefused, inspect, data, name,
                              allowed=allowed)

    def test_checks_that_may_fail(self) -> None:
        data = formats.disk()
        self.assertRaises(exceptions.ContentRefused, inspect, data, 'raw')
        inspect(data, 'raw', allowed=rules.Rules(
            nonfatal_checks=frozenset({'mbr'})))


class AnyQcow2Test(testtools.TestCase):
    """Whatever stands in the header."""

    @given(strategies.fixed_dictionaries({}, optional={
        'version': strategies.integers(0, 5),
        'backing_offset': NUMBERS64, 'cluster_bits': strategies.one_of(
            strategies.integers(0, 30), NUMBERS32),
        'size': NUMBERS64, 'encryption': strategies.integers(0, 3),
        'l1_entries': NUMBERS32, 'l1_offset': NUMBERS64,
        'refcount_offset': NUMBERS64, 'refcount_clusters': NUMBERS32,
        'snapshots': NUMBERS32, 'features': NUMBERS64,
        'refcount_order': NUMBERS32, 'length': NUMBERS32,
        'compression': strategies.integers(0, 255)}))
    def test_header(self, fields: dict[str, int]) -> None:
        try:
            found = inspect(formats.qcow2(**fields), 'qcow2')
        except exceptions.ContentError:
            return
        image = formats.Qcow2(**fields)
        self.assertEqual(image.size, found.virtual_size)
        self.assertLessEqual(image.size, rules.Rules().max_virtual_size)
        self.assertEqual(0, image.backing_offset)
        self.assertIn(image.version, (2, 3))
        if image.version == 3:
            self.assertEqual(0, image.features & ~9)
