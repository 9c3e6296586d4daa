"""What a node has settled on, as it is kept and as it is told."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
import stat

import fixtures
import testtools

from easystack_image.ota.serving import aside
from easystack_image.ota.serving import counts
from easystack_image.ota.serving import standing

Standing = standing.Standing


class StandingTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.useFixture(fixtures.TempDir()).path)
        self.opt, self.instances = self.root / 'opt', self.root / 'i'
        self.slot = self.opt / 'slots/2.0.0'
        self.instances.mkdir()

    def told(self) -> Standing:
        return standing.told(self.slot, self.instances)

    def test_header(self) -> None:
        for found in (Standing(), Standing('2.0.0', 2),
                      Standing('2.0.0rc1', 12, aside=True)):
            self.assertEqual(found, standing.from_header(found.header()))
        # Of a later release, which has more to say.
        self.assertEqual(Standing('2', 3), standing.from_header(
            'contracted=3; later=1; settled=2'))
        for text in ('', 'settled=2', 'settled=2; contracted=',
                     'settled=2; contracted=-1', 'contracted=1', 'yes'):
            self.assertIsNone(standing.from_header(text), text)

    def test_kept(self) -> None:
        self.assertEqual(Standing(), standing.read(self.opt))
        for found in (Standing('1.0.0'), Standing('2.0.0', 2)):
            standing.write(self.opt, found)
            self.assertEqual(found, standing.read(self.opt))
        # The service may be another user.
        mode = (self.opt / standing.NAME).stat().st_mode
        self.assertEqual(0o644, stat.S_IMODE(mode))
        self.assertEqual([standing.NAME], os.listdir(self.opt))

    def test_damaged(self) -> None:
        self.opt.mkdir()
        for text in ('', '{}', '[]', '{"settled": "1", "contracted": null}'):
            (self.opt / standing.NAME).write_text(text)
            self.assertRaises(ValueError, standing.read, self.opt)

    def test_told(self) -> None:
        standing.write(self.opt, Standing('2.0.0', 1))
        self.assertEqual(Standing('2.0.0', 1), self.told())
        aside.step_aside(self.instances, 60)
        self.assertEqual(Standing('2.0.0', 1, True), self.told())
        standing.write(self.opt, Standing('1.0.0', 1))
        self.assertEqual(Standing('', 1, True), self.told())

    def test_another_release_lives(self) -> None:
        """However it came to be: who settled serves nothing else."""
        standing.write(self.opt, Standing('2.0.0'))
        for name in ('1.0.0.1', '2.0.0.2'):
            (self.instances / name).mkdir()
        for name, settled in (('2.0.0.2', '2.0.0'), ('1.0.0.1', '')):
            fd = os.open(self.instances / name / f'{counts.NAME}.1',
                         os.O_RDWR | os.O_CREAT, 0o600)
            # As a worker does as long as it lives.
            fcntl.flock(fd, fcntl.LOCK_EX)
            self.assertEqual(settled, self.told().settled)
        os.close(fd)
        self.assertEqual('2.0.0', self.told().settled)
