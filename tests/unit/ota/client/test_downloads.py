"""Downloading: resumed, verified, and what becomes of bad beginnings."""

from __future__ import annotations

import os
from pathlib import Path
import random

from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import TargetFile

from easystack_image import fsio
from easystack_image.ota.client import downloads
from easystack_image.ota.client import fetcher
from tests.unit.ota import base
from tests.unit.ota import server as servers

DATA = random.Random(7).randbytes(1000000)


class DownloadTest(base.Case):

    def setUp(self) -> None:
        super().setUp()
        (self.root / 'public').mkdir()
        (self.root / 'public' / 'release').write_bytes(DATA)
        self.server = servers.Server(self.root / 'public')
        self.enterContext(self.server)
        self.place = self.root / 'downloads'
        self.place.mkdir()
        self.directory = fsio.open_directory(str(self.place))
        self.addCleanup(os.close, self.directory)
        self.target = TargetFile.from_data('release', DATA, ['sha256'])
        self.part: Path = self.place / (
            self.target.hashes['sha256'] + downloads.PART)
        self.seen: list[tuple[int, int]] = []

    def save(self) -> None:
        downloads.Download(
            fetcher.Fetcher(fetcher.Limits(20.0, 1)),
            f'{self.server.url}/release', self.target,
            self.directory).save('release.tar', lambda done, size: (
                self.seen.append((done, size))))

    def assertDone(self, *begins: int) -> None:
        """Check what is there, and from where on the server was asked."""
        self.assertEqual(['release.tar'], os.listdir(self.place))
        self.assertEqual(DATA, (self.place / 'release.tar').read_bytes())
        self.assertEqual(list(begins),
                         [begin for _, begin in self.server.requests])
        self.assertEqual((len(DATA), len(DATA)), self.seen[-1])

    def test_new(self) -> None:
        self.save()
        self.assertDone(0)
        self.assertEqual(sorted(self.seen), self.seen)
        self.assertGreater(len(self.seen), 3)

    def test_there_already(self) -> None:
        self.save()
        self.save()
        self.assertDone(0)

    def test_there_already_and_damaged(self) -> None:
        (self.place / 'release.tar').write_bytes(DATA[:-1] + b'x')
        self.save()
        self.assertDone(0)

    def test_resumed(self) -> None:
        self.part.write_bytes(DATA[:123456])
        self.save()
        self.assertDone(123456)

    def test_resumed_when_all_is_there(self) -> None:
        self.part.write_bytes(DATA)
        self.save()
        self.assertEqual([], self.server.requests)
        self.assertEqual(['release.tar'], os.listdir(self.place))

    def test_resumed_with_a_bad_beginning(self) -> None:
        """As a power failure leaves it: the size is there, the data not."""
        self.part.write_bytes(bytes(123456))
        self.save()
        self.assertDone(123456, 0)

    def test_resumed_with_too_much(self) -> None:
        self.part.write_bytes(DATA + b'more')
        self.save()
        self.assertDone(0)

    def test_server_without_ranges(self) -> None:
        self.part.write_bytes(DATA[:123456])
        self.server.tricks['release'] = servers.send
        self.save()
        self.assertDone(123456)

    def test_server_that_has_no_rest(self) -> None:
        self.part.write_bytes(DATA[:123456])

        def trick(handler: object, data: bytes) -> None:
            if servers.begin_of(handler):
                servers.send(handler, b'', 416)
            else:
                servers.send(handler, data)

        self.server.tricks['release'] = trick
        self.save()
        self.assertDone(123456, 0)

    def test_broken_off_a_few_times(self) -> None:
        self.server.tricks['release'] = servers.break_off(300000)
        self.save()
        self.assertDone(0, 300000, 600000, 900000)

    def test_broken_off_too_often(self) -> None:
        self.server.tricks['release'] = servers.break_off(1000)
        self.assertRaises(tuf_errors.DownloadError, self.save)
        # What there is by then is the beginning of the next time.
        self.assertEqual([0, 1000, 2000, 3000, 4000],
                         [begin for _, begin in self.server.requests])
        self.assertEqual(DATA[:5000], self.part.read_bytes())

    def test_broken_off_at_once(self) -> None:
        self.server.tricks['release'] = servers.break_off(0)
        self.assertRaises(tuf_errors.DownloadError, self.save)
        self.assertEqual(1, len(self.server.requests))

    def test_another_file(self) -> None:
        (self.root / 'public' / 'release').write_bytes(DATA[::-1])
        self.assertRaises(tuf_errors.LengthOrHashMismatchError, self.save)
        self.assertEqual([], os.listdir(self.place))

    def test_endless(self) -> None:
        self.server.tricks['release'] = servers.endless
        self.assertRaises(tuf_errors.DownloadLengthMismatchError, self.save)
        self.assertLessEqual(self.part.stat().st_size, len(DATA))

    def test_a_link_is_not_followed(self) -> None:
        (self.root / 'other').write_bytes(b'')
        self.part.symlink_to(self.root / 'other')
        self.assertRaises(OSError, self.save)
        self.assertEqual(b'', (self.root / 'other').read_bytes())
