"""What the gate lets in, QEMU takes for the same."""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path
import random
import subprocess
from typing import Any

import fixtures
import testtools

from tests.content import fuzz
from tests.corpus import formats

#: How many that are let in QEMU is asked about, for each format.
WANTED = 80
#: Magic numbers of what QEMU would recognise, to be found in raw images.
MARKS = (b'QFI\xfb', b'QED\0', b'KDMV', b'COWD', b'conectix', b'vhdxfile',
         b'LUKS\xba\xbe', b'WithoutFreeSpace', b'version=1\n',
         b'# Disk DescriptorFile\n', b'Bochs Virtual HD Image',
         b'\x7f\x10\xda\xbe')


class QemuTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.useFixture(fixtures.TempDir()).path, 'image')
        self.draw = random.Random(7)

    def info(self, data: bytes) -> dict[str, Any]:
        """Return what QEMU says of an image when it has to guess."""
        self.path.write_bytes(data)
        result = subprocess.run(
            ['qemu-img', 'info', '--output=json', self.path],
            capture_output=True, timeout=60, check=False)
        if result.returncode:
            return {'format': 'refused', 'error': result.stderr}
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def let_in(self, disk_format: str,
               inputs: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the inputs that the gate lets in, some of them."""
        found = 0
        while found < WANTED:
            data = next(inputs)
            if fuzz.judge(data, disk_format, None):
                found += 1
                yield data

    def qcow2(self) -> Iterator[bytes]:
        base = formats.qcow2()
        while True:
            yield fuzz.mutate(base, base, self.draw).ljust(
                len(base), b'\0')

    def raw(self) -> Iterator[bytes]:
        material = fuzz.seeds()
        while True:
            data = fuzz.mutate(self.draw.choice(material),
                               self.draw.choice(material), self.draw)
            # A mark near the beginning, or a line before it.
            mark = self.draw.choice(MARKS)
            before = self.draw.choice((b'', b'\n', b' ', b'#x\n', b'\0',
                                       bytes(64), b'#\n\n', b'\r\n'))
            yield self.draw.choice((data, before + mark + data))

    def test_qcow2(self) -> None:
        seen = set()
        for data in self.let_in('qcow2', self.qcow2()):
            shown = self.info(data)
            seen.add(shown['format'])
            # It may find more faults than we; it must find no other file.
            self.assertIn(shown['format'], ('qcow2', 'refused'))
            for name in ('backing-filename', 'full-backing-filename'):
                self.assertNotIn(name, shown)
            self.assertNotIn('data-file', shown.get(
                'format-specific', {}).get('data', {}))
        self.assertIn('qcow2', seen)

    def test_raw(self) -> None:
        for data in self.let_in('raw', self.raw()):
            self.assertEqual('raw', self.info(data)['format'], data[:100])
