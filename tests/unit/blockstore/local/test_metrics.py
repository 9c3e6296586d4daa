"""The file for Prometheus, read as Prometheus reads it."""

from __future__ import annotations

import io
import os
from pathlib import Path
import threading
import time
from typing import Any

import fixtures
from prometheus_client import parser

from easystack_image import exceptions
from easystack_image.blockstore.local import status as status_module
from tests.contract import local
from tests.unit.blockstore.local import base

PREFIX = 'easystack_block_'


class MetricsTest(base.LabTest):

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(self.useFixture(fixtures.TempDir()).path)
        self.path = self.directory / 'copies.prom'
        self.addCleanup(self.clean_up)
        self.make()

    def make(self, **options: Any) -> None:
        self.engine = self.lab.engine(**{
            'metrics_file': str(self.path), 'store_name': 'copies',
            'nearly_full': 100.0, **options})
        self.statuses: list[status_module.Status] = []
        self.healer = self.engine.healer(self.statuses.append)

    def clean_up(self) -> None:
        for device in self.devices:
            for name in (status_module.STATUS, 'members.json'):
                Path(device, name).unlink(missing_ok=True)

    def heal(self) -> None:
        self.healer.round(threading.Event())

    def families(self) -> dict[str, Any]:
        """Return what the file holds, by name."""
        text = self.path.read_text()
        return {family.name: family for family in
                parser.text_string_to_metric_families(text)}

    def samples(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the samples of a metric, by labels without the store."""
        family = self.families()[PREFIX + name.removesuffix('_total')]
        found = {}
        for sample in family.samples:
            self.assertEqual(PREFIX + name, sample.name)
            labels = dict(sample.labels)
            self.assertEqual('copies', labels.pop('store'))
            found[tuple(labels.values())] = sample.value
        return found

    def value(self, name: str) -> float:
        """Return the value of a metric that has but one."""
        (labels, value), = self.samples(name).items()
        self.assertEqual((), labels)
        return value

    def write(self, data: bytes) -> str:
        image_id = self.image_id()
        self.engine.write(image_id, io.BytesIO(data), len(data))
        return image_id

    def test_conventions(self) -> None:
        """What promtool would complain of."""
        self.write(b'data')
        self.heal()
        for name, family in self.families().items():
            self.assertRegex(name, f'^{PREFIX}[a-z_]+[a-z]$')
            self.assertRegex(family.documentation, r'^[A-Z].*\.$')
            self.assertIn(family.type, ('gauge', 'counter'))
            for sample in family.samples:
                self.assertEqual(family.type == 'counter',
                                 sample.name.endswith('_total'))
                self.assertIn('store', sample.labels)
        self.assertNotIn('_created', self.path.read_text())

    def test_images(self) -> None:
        before = time.time()
        for size in (1000, 20):
            self.write(b'x' * size)
        self.heal()
        self.assertEqual(2, self.value('images'))
        self.assertEqual(3 * 1020, self.value('copies_bytes'))
        for name in ('images_below_copies', 'images_below_min_copies',
                     'images_waiting', 'images_failing', 'images_misplaced',
                     'quarantined_copies', 'scrubbed_bytes_total',
                     'bad_copies_found_total', 'images_repaired_total',
                     'copies_moved_total'):
            self.assertEqual(0, self.value(name), name)
        for name in ('oldest_verification_timestamp_seconds',
                     'last_round_timestamp_seconds'):
            self.assertGreaterEqual(self.value(name), before - 1, name)
            self.assertLessEqual(self.value(name), time.time(), name)
        self.assertEqual(60, self.value('round_interval_seconds'))
        self.assertEqual(self.statuses[-1].written_at,
                         self.value('last_round_timestamp_seconds'))

    def test_no_images(self) -> None:
        self.heal()
        self.assertEqual(0, self.value('images'))
        self.assertNotIn(f'{PREFIX}oldest_verification_timestamp_seconds',
                         self.families())

    def test_damage(self) -> None:
        """A scrub finds it, and the next file says so."""
        image_id = self.write(b'x' * 5000)
        victim = self.lab.holders(image_id)[0]
        self.lab.damage(victim, image_id, 17)
        for device in self.devices:
            manifest = Path(self.lab.place(device, image_id, 'manifest'))
            if manifest.exists():
                os.utime(manifest, (1e9, 1e9))
        self.heal()
        self.assertEqual(1e9, self.value(
            'oldest_verification_timestamp_seconds'))
        self.healer.scrub_due(threading.Event())
        self.heal()
        self.assertEqual(1, self.value('bad_copies_found_total'))
        self.assertEqual(1, self.value('images_repaired_total'))
        self.assertEqual(1, self.value('quarantined_copies'))
        self.assertGreaterEqual(self.value('scrubbed_bytes_total'), 10000)
        self.assertEqual(0, self.value('images_below_copies'))

    def test_devices(self) -> None:
        self.lab.take_away(self.devices[3])
        self.heal()
        self.lab.bring_back(self.devices[3])
        usage = os.statvfs(self.devices[0])
        there = {(device, local.identity(number).zone)
                 for number, device in enumerate(self.devices[:3])}
        sizes = self.samples('device_size_bytes')
        self.assertEqual(there, set(sizes))
        self.assertEqual({usage.f_blocks * usage.f_frsize},
                         set(sizes.values()))
        free = self.samples('device_free_bytes')
        self.assertEqual(there, set(free))
        for value in free.values():
            self.assertGreater(value, 0)
        states = self.samples('device_state')
        self.assertEqual(12, len(states))
        self.assertEqual(
            {(device, 'active') for device in self.devices[:3]}
            | {(self.devices[3], 'unavailable')},
            {labels for labels, value in states.items() if value})
        self.assertEqual({('critical',): 0, ('warning',): 1},
                         self.samples('problems'))

    def test_problems(self) -> None:
        for device in self.devices[1:]:
            self.lab.take_away(device)
        self.heal()
        for device in self.devices[1:]:
            self.lab.bring_back(device)
        self.assertEqual({('critical',): 1, ('warning',): 3},
                         self.samples('problems'))

    def test_label(self) -> None:
        """Whatever a store or a zone is called."""
        self.make(store_name='a "b" \\c\n')
        self.heal()
        for family in self.families().values():
            for sample in family.samples:
                self.assertEqual('a "b" \\c\n', sample.labels['store'])

    def test_store_without_a_name(self) -> None:
        self.make(store_name='')
        self.heal()
        sample, = self.families()[f'{PREFIX}images'].samples
        self.assertEqual({'store': local.STORE_ID}, sample.labels)

    def test_none(self) -> None:
        self.make(metrics_file='')
        self.heal()
        self.assertEqual([], list(self.directory.iterdir()))
        self.assertEqual(1, len(self.statuses))

    def test_in_one_step(self) -> None:
        """Whoever reads it finds the old one or the new one, whole."""
        self.heal()
        first = self.path.read_text()
        with self.path.open() as reader:
            self.write(b'data')
            self.heal()
            self.assertEqual(first, reader.read())
        self.assertNotEqual(first, self.path.read_text())
        self.assertEqual([self.path], list(self.directory.iterdir()))

    def test_it_cannot_be_written(self) -> None:
        """The healer goes on without, and says so."""
        self.make(metrics_file=str(self.directory / 'nowhere' / 'x.prom'))
        self.heal()
        self.assertEqual(1, len(self.statuses))
        self.assertIn('The metrics cannot be written', self.log.output)
        self.assertIn('Create its directory', self.log.output)

    def test_relative_path(self) -> None:
        error = self.assertRaises(exceptions.ConfigurationError,
                                  self.settings, metrics_file='x.prom')
        self.assertIn('absolute', str(error))
