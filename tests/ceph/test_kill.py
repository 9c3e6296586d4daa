"""kill -9 at every step of writing, deleting and sweeping.

All processes are killed first, each with an image of its own; then what they
left is swept once the cluster has forgotten them all, and judged.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import json
import subprocess
import sys
from typing import Any
from unittest import mock
import uuid

import rbd

from easystack_image import exceptions
from easystack_image.blockstore.ceph import engine as engine_module
from easystack_image.blockstore.ceph import images
from easystack_image.blockstore.ceph import layout
from tests.ceph import base
from tests.ceph import cluster as cluster_module
from tests.ceph import steps
from tests.contract import sources
from tests.functional import processes

#: How long after the begin of a call that is made of several changes its
#: process is killed, in seconds: with luck, in between.
DELAYS = (0.002, 0.008)
#: Seconds until Ceph has forgotten who was killed, and a busy machine's.
PATIENCE = 40


class KillTest(base.StoreCase):
    """Whatever a process was doing, an image is whole or gone."""

    def setUp(self) -> None:
        super().setUp()
        self.engine = self._engine()
        self.server = subprocess.Popen(
            [sys.executable, '-m', 'tests.ceph.steps',
             str(self.cluster.conf), self.cluster.pool, self.cluster.user],
            env=processes.environment(), cwd=processes.ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(self.server.wait)
        for pipe in (self.server.stdin, self.server.stdout):
            self.addCleanup(pipe.close)
        #: Which image each job was about, and what became of the job.
        self.jobs: dict[str, tuple[steps.Job, Any]] = {}

    def _engine(self) -> engine_module.CephEngine:
        engine = self.client.engine
        assert isinstance(engine, engine_module.CephEngine)
        return engine

    def data(self, job: steps.Job) -> bytes:
        """Return what is in the image of a job."""
        return sources.noise(steps.SIZE, job['seed'])

    def run_job(self, job: steps.Job) -> Any:
        """Have a job done, and its process killed."""
        self.server.stdin.write(json.dumps(job) + '\n')
        self.server.stdin.flush()
        result = json.loads(self.server.stdout.readline())
        self.assertNotIn('error', result)
        self.jobs[job['image_id']] = job, result
        return result

    def prepare(self, kind: str, **more: Any) -> steps.Job:
        """Return a job, with what it needs, but where it is cut."""
        # None with the same lock, by which one would wait for another.
        number = len(self.jobs)
        job = {'kind': kind, 'seed': number, 'cut': 0, 'delay': None,
               'image_id': f'{number:02x}{str(uuid.uuid4())[2:]}', **more}
        if kind != 'write':
            job['generation'] = self.engine.write(
                job['image_id'], sources.Source(self.data(job)),
                steps.SIZE).generation
        if kind == 'discard':
            rbd.RBD().rename(
                self.whole_pool, job['image_id'], layout.upload_name(
                    layout.Upload(job['image_id'], job['generation'])))
        return job

    def cuts(self, names: list[str]) -> Iterator[dict[str, Any]]:
        """Yield where to cut what has these steps: before and in each."""
        for number, name in enumerate(names, 1):
            yield {'cut': number, 'delay': None}
            if name in steps.COMPOUND:
                for delay in DELAYS:
                    yield {'cut': number, 'delay': delay}

    def kill_everywhere(self, kind: str, **more: Any) -> list[str]:
        """Kill a process at every step; return their names."""
        whole = self.run_job(self.prepare(kind, **more))
        self.assertTrue(whole['acknowledged'])
        for cut in list(self.cuts(whole['steps'])):
            result = self.run_job({**self.prepare(kind, **more), **cut})
            if cut['delay'] is None:
                self.assertEqual({}, result, cut)
        return list(whole['steps'])

    def sweep_all(self) -> None:
        """Sweep until nothing is left to sweep."""
        age = images.age
        left: set[str] = set()

        def swept() -> bool:
            nonlocal left
            with mock.patch.object(images, 'age',
                                   lambda moment: age(moment) + 1000):
                self.sweep()
            # One more name of an image that is there goes with it.
            stored = tuple(self.engine.list_images())
            left = {name for name in self.objects() - self.before
                    if name.startswith((
                        'rbd_id.easystack-', 'easystack-deletions/',
                        'easystack-uploads/', 'rbd_trash/'))
                    and not any(each in name for each in stored)}
            return not left

        with contextlib.suppress(TimeoutError):
            processes.poll(swept, 'the sweep', PATIENCE, interval=3)
        if left:
            # Ceph never forgets one who died just while it noted that he
            # watches, unless the OSD begins anew with what it has.
            for number in range(cluster_module.OSDS):
                self.cluster.ceph('osd', 'down', str(number))
            self.cluster.wait_clean()
            with contextlib.suppress(TimeoutError):
                processes.poll(swept, 'the sweep', PATIENCE, interval=3)
        self.assertEqual(set(), left, [
            job for image_id, job in self.jobs.items()
            if image_id in ''.join(left)])

    def is_whole(self, job: steps.Job) -> bool:
        """Tell whether an image is there; what is there must be whole."""
        try:
            reader = self.engine.open(job['image_id'])
        except exceptions.ImageNotFound:
            return False
        with contextlib.closing(reader):
            self.assertTrue(b''.join(reader) == self.data(job), job)
        return True

    def judge(self) -> dict[tuple[str, bool], int]:
        """See that each image is whole or gone; count which is which.

        And that nothing else is left, and each id is free again.
        """
        seen: dict[tuple[str, bool], int] = {}
        for image_id, (job, result) in self.jobs.items():
            there = self.is_whole(job)
            if result.get('acknowledged'):
                self.assertEqual(job['kind'] == 'write', there, job)
            key = (job['kind'], there)
            seen[key] = seen.get(key, 0) + 1
            if there:
                self.engine.delete(image_id)
        # Of some, somebody who was killed is taken for alive still.
        self.sweep_all()
        self.assertEqual(set(), self.objects() - self.before)
        return seen

    def check_ids_are_free(self) -> None:
        """See that each id can be used again."""
        for image_id in self.jobs:
            self.engine.write(image_id, sources.Source(b'again'))
            self.engine.delete(image_id)
        self.assertEqual(set(), self.objects() - self.before)

    def test_killed_at_every_step(self) -> None:
        named = set()
        for kind, more in (('write', {'size': steps.SIZE}), ('delete', {}),
                           ('discard', {})):
            named |= set(self.kill_everywhere(kind, **more))
        # An upload of unknown size, where it grows and where it ends.
        names = self.run_job(self.prepare('write'))['steps']
        for number, name in enumerate(names, 1):
            if name == 'resize':
                self.run_job({**self.prepare('write'), 'cut': number})
        # Only long manifests are written in pieces.
        self.assertEqual({'write'}, steps.CHANGES - named - set(names))
        self.sweep_all()
        seen = self.judge()
        for key in (('write', False), ('write', True), ('delete', False),
                    ('delete', True), ('discard', False)):
            self.assertIn(key, seen, seen)
        self.check_ids_are_free()

    def test_deletion_in_a_full_pool(self) -> None:
        """It cannot get another name, and is finished nevertheless."""
        removing = self.run_job(self.prepare('delete'))['steps']
        whole = self.prepare('delete')
        jobs = []
        self.jobs[whole['image_id']] = whole, {}
        for number in range(len(removing) + 2):
            jobs.append(self.prepare('delete'))
            self.jobs[jobs[-1]['image_id']] = jobs[-1], {}
            jobs[-1]['cut'] = number + 1
        self.cluster.set_quota(1)
        self.cluster.wait_full()
        names = self.run_job(whole)['steps']
        self.assertLessEqual(len(names), len(jobs))
        for job in jobs:
            self.run_job(job)
        self.sweep_all()
        self.cluster.mend()
        self.judge()
        self.check_ids_are_free()
