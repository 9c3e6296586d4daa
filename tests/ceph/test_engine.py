"""What the ceph engine does that no other one does."""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import errno
import functools
import os
import random
import subprocess
import sys
import threading
import time
from typing import Any
from unittest import mock
import uuid

import fixtures
import rbd
import testtools

from easystack_image import exceptions
from easystack_image.blockstore import address
from easystack_image.blockstore import engine as engine_module
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.ceph import images
from easystack_image.blockstore.ceph import layout
from easystack_image.blockstore.ceph import ledger
from easystack_image.blockstore.ceph import removal
from easystack_image.blockstore.ceph import renames
from easystack_image.blockstore.ceph import writer
from tests.ceph import cluster as cluster_module
from tests.ceph import lab as lab_module
from tests.contract import base as contract
from tests.contract import sources
from tests.contract.sources import noise

MIB = 1 << 20


class EngineTest(testtools.TestCase):
    """A test on an empty pool."""

    def setUp(self) -> None:
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger())
        self.lab = self.useFixture(lab_module.CephLab())
        self.cluster = cluster_module.shared()
        self.ioctx = lab_module.pool()
        self.engine = self.lab.engine()

    def store(self, data: bytes) -> engine_module.ImageInfo:
        """Store an image."""
        return self.engine.write(str(uuid.uuid4()), sources.Source(data),
                                 len(data))

    def read(self, image_id: str, *arguments: int,
             engine: Any = None) -> bytes:
        """Return the bytes of an image, or of a range of it."""
        with contextlib.closing((engine or self.engine).open(
                image_id, *arguments)) as reader:
            return b''.join(reader)

    def foreign(self, data: bytes, name: str = '',
                snapshot: str = 'snap') -> str:
        """Make an image as glance_store's rbd driver does."""
        name = name or str(uuid.uuid4())
        rbd.RBD().create(self.ioctx, name, len(data), 23, old_format=False)
        with rbd.Image(self.ioctx, name) as image:
            image.write(data, 0)
            if snapshot:
                image.create_snap(snapshot)
                image.protect_snap(snapshot)
        return name

    def names(self) -> list[str]:
        """Return the names of all RBD images."""
        return sorted(rbd.RBD().list(self.ioctx))

    def objects(self) -> list[str]:
        """Return the names of our own objects, besides the books."""
        return sorted(
            each.key for each in self.ioctx.list_objects()
            if each.key.startswith('easystack-')
            and each.key not in (layout.INDEX, layout.REQUESTS,
                                 layout.UPLOADS, layout.DELETIONS,
                                 layout.DAMAGED))

    def later(self, seconds: float) -> Any:
        """Have what is in the pool look older than they are."""
        age = images.age
        return mock.patch.object(
            images, 'age', lambda moment: age(moment) + seconds)


class ConnectionTest(EngineTest):

    def test_start_leaves_nothing(self) -> None:
        # With another time limit, so with a connection of its own.
        made = self.lab.engine_class().from_options(
            {**self.lab.options(), 'ceph_timeout': 29})
        with contract.nothing_left_behind():
            made.start()
        made.close()

    def test_close_leaves_nothing(self) -> None:
        info = self.store(noise(5))
        with contract.nothing_left_behind():
            made = self.lab.engine(ceph_timeout=28)
            other = self.lab.engine(ceph_timeout=28)
            reader = made.open(info.image_id)
            made.close()
            # Others have it still.
            self.assertEqual(noise(5), self.read(info.image_id,
                                                 engine=other))
            self.assertEqual(noise(5), b''.join(reader))
            reader.close()
            other.close()
            other.close()

    def test_closed_engine_connects_anew(self) -> None:
        made = self.lab.engine(ceph_timeout=27)
        info = self.store(noise(5))
        for _ in range(2):
            self.assertEqual(noise(5), self.read(info.image_id, engine=made))
            made.close()

    def test_a_failure_counts_for_a_while(self) -> None:
        """And only for a while."""
        made = self.lab.engine(ceph_timeout=24)
        made.close()
        real, tried = connection.Cluster, []

        def fail(settings: Any) -> None:
            tried.append(settings)
            raise exceptions.DeviceUnavailable('pool images', 'away')

        image = self.store(b'data').image_id
        with mock.patch.object(connection, 'Cluster', fail):
            for _ in range(3):
                error = self.assertRaises(exceptions.ImageUnavailable,
                                          made.info, image)
                self.assertIn('away', str(error))
        self.assertEqual(1, len(tried))
        self.assertIs(real, connection.Cluster)
        contract.eventually(lambda: self._is_read(made, image),
                            'it connects again', 10 * connection.HOLD_OFF)

    def _is_read(self, engine: engine_module.Engine, image: str) -> bool:
        try:
            return self.read(image, engine=engine) == b'data'
        except exceptions.ImageUnavailable:
            return False

    def test_one_for_all_threads_and_engines(self) -> None:
        other = self.lab.engine()
        self.assertIs(self.engine._connection.cluster(),
                      other._connection.cluster())

    def test_forked_child_makes_its_own(self) -> None:
        data = noise(5 * MIB)
        info = self.store(data)
        reader = self.engine.open(info.image_id)
        before = self.engine._connection.cluster()
        child = os.fork()
        if not child:
            code = 1
            try:
                # What the parent was reading is let go of in peace.
                reader.close()
                made = self.engine._connection.cluster()
                if made is not before and self.read(
                        info.image_id) == data:
                    self.engine.write(
                        str(uuid.UUID(int=7)), sources.Source(b'child'))
                    code = 0
                self.engine.close()
                del reader
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        self.assertEqual(0, os.waitstatus_to_exitcode(status))
        # The parent notices nothing.
        self.assertIs(before, self.engine._connection.cluster())
        self.assertTrue(b''.join(reader) == data)
        reader.close()
        self.assertEqual(b'child', self.read(str(uuid.UUID(int=7))))

    def test_shut_out(self) -> None:
        """The cluster blocklists clients that it takes for dead."""
        info = self.store(noise(5))
        # A connection of its own: it will not be used again.
        engine = self.lab.engine(ceph_timeout=5)
        before = engine._connection.cluster()
        address = before.rados.get_addrs().rpartition('/')
        self.cluster.ceph('osd', 'blocklist', 'add',
                          f'{address[0].rpartition("v2:")[2]}/{address[2]}')
        self.wait_until_refused(info.image_id, engine)
        self.assertEqual(noise(5), self.read(info.image_id, engine=engine))
        self.assertIsNot(before, engine._connection.cluster())

    def wait_until_refused(self, image_id: str,
                           engine: engine_module.Engine) -> None:
        """Read until that fails: each OSD hears of it in its own time."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                self.read(image_id, engine=engine)
            except exceptions.BlockStoreError:
                return
            time.sleep(0.05)
        self.fail('a client that is shut out goes on reading')

    def test_no_connection(self) -> None:
        for options, word in (
                ({'ceph_user': 'nobody'}, 'client.nobody'),
                ({'ceph_pool': 'nowhere'}, 'pool nowhere'),
                ({'ceph_conf': '/nowhere/ceph.conf'}, '/nowhere/ceph.conf')):
            made = self.lab.engine_class().from_options(
                {**self.lab.options(), 'ceph_timeout': 3, **options})
            with contract.nothing_left_behind():
                error = self.assertRaises(exceptions.ConfigurationError,
                                          made.start)
                self.assertIn(word, str(error))
                problem, = made.problems()
                self.assertTrue(problem.outage)
                self.assertIn(word, problem.message)
                made.close()

    def test_settings_reach_librbd(self) -> None:
        get = self.engine._connection.cluster().rados.conf_get
        self.assertEqual('false', get('rbd_cache'))
        self.assertEqual(lab_module.PATIENCE,
                         float(get('rados_osd_op_timeout')))
        self.assertEqual(lab_module.PATIENCE,
                         float(get('rados_mon_op_timeout')))


class PromiseTest(EngineTest):
    """The pool keeps what the configuration says, or is refused."""

    def set(self, name: str, value: int) -> None:
        self.cluster.ceph('osd', 'pool', 'set', self.cluster.pool, name,
                          str(value))

    def test_refused(self) -> None:
        for name, wrong, right in (('min_size', 1, 2), ('size', 2, 3)):
            self.addCleanup(self.set, name, right)
            self.set(name, wrong)
            made = self.lab.engine_class().from_options(self.lab.options())
            self.addCleanup(made.close)
            command = f'ceph osd pool set {self.cluster.pool} {name} {right}'
            error = self.assertRaises(exceptions.ConfigurationError,
                                      made.start)
            self.assertIn(command, str(error))
            # One that runs goes on, and says so.
            messages = [problem.message for problem in
                        self.engine.problems()]
            self.assertIn(command, ' '.join(messages))
            # The command is taken by its word.
            self.cluster.ceph(*command.split()[1:])
            contract.eventually(lambda: not self.engine.problems(),
                                'no problems are left')
            made.start()


class ForeignTest(EngineTest):
    """Images of glance_store's rbd driver."""

    def test_served(self) -> None:
        data = noise(9 * MIB + 5)
        image = self.foreign(data)
        self.assertTrue(self.read(image) == data)
        self.assertTrue(self.read(image, 8 * MIB - 1, 3)
                        == data[8 * MIB - 1:8 * MIB + 2])
        info = self.engine.info(image)
        self.assertEqual((image, len(data), '', ''),
                         (info.image_id, info.size, info.md5,
                          info.multihash))
        self.assertEqual(info, self.engine.info(image, info.generation))
        self.assertRaises(exceptions.ImageNotFound, self.engine.info, image,
                          str(uuid.uuid4()))
        now = datetime.datetime.now().timestamp()
        self.assertTrue(now - 60 < info.created_at < now + 60, info)
        self.assertIn(image, list(self.engine.list_images()))
        for verify in (False, True):
            for copy in self.engine.list_copies(image, verify):
                self.assertIs(contract.GOOD, copy.state)
                self.assertIn('cannot be verified', copy.reason)
        self.engine.repair(image)

    def test_deleted(self) -> None:
        image = self.foreign(noise(MIB))
        self.assertRaises(exceptions.ImageExists, self.engine.write, image,
                          sources.Untouchable())
        self.engine.delete(image)
        self.assertEqual([], self.names())
        self.assertRaises(exceptions.ImageNotFound, self.engine.info, image)

    def test_made_by_nova(self) -> None:
        """A snapshot of a server whose volume is a clone of ours.

        Clones inherit metadata, among it our generation.
        """
        data = noise(9 * MIB + 5)
        ours, image = self.store(data).image_id, str(uuid.uuid4())
        rbd.RBD().clone(self.ioctx, ours, 'snap', self.ioctx, 'disk')
        with rbd.Image(self.ioctx, 'disk') as disk:
            disk.write(b'changed', 3 * MIB)
            disk.create_snap('now')
            disk.protect_snap('now')
        # With all features that Ceph gives by default, as Nova does.
        rbd.RBD().clone(self.ioctx, 'disk', 'now', self.ioctx, image,
                        features=61)
        with rbd.Image(self.ioctx, image) as made:
            made.flatten()
            made.create_snap('snap')
            made.protect_snap('snap')
            self.assertIn('easystack.generation', dict(made.metadata_list()))
        with rbd.Image(self.ioctx, 'disk') as disk:
            disk.unprotect_snap('now')
            disk.remove_snap('now')
        rbd.RBD().remove(self.ioctx, 'disk')

        data = data[:3 * MIB] + b'changed' + data[3 * MIB + 7:]
        self.assertTrue(self.read(image) == data)
        self.assertEqual('', self.engine.info(image).md5)
        self.engine.repair(image)
        self.assertEqual([True, False, False], [
            self.engine.is_foreign(address.Rbd(
                self.engine.store_id, self.cluster.pool, each))
            for each in (image, ours, str(uuid.uuid4()))])
        self.engine.sweeper.sweep()
        self.engine.delete(image)
        self.engine.delete(ours)
        self.assertEqual(([], []), (self.names(), self.objects()))

    def test_deleted_while_it_is_read(self) -> None:
        """What is removed reads as zeros, which nothing tells from data."""
        data = noise(48 * MIB)
        image = self.foreign(data)
        with contextlib.closing(self.engine.open(image)) as reader:
            read = next(reader)
            self.engine.delete(image)
            self.assertRaises(
                exceptions.BlockStoreError,
                lambda: [read := piece for piece in reader])
            self.assertTrue(read)

    def test_unfinished_is_no_image(self) -> None:
        image = self.foreign(noise(MIB), snapshot='')
        for call in (self.engine.info, self.engine.open):
            self.assertRaises(exceptions.ImageNotFound, call, image)
        self.engine.delete(image)
        self.assertEqual([], self.names())

    def test_never_swept(self) -> None:
        mine = self.store(b'data').image_id
        names = sorted([
            mine, self.foreign(b'a'), self.foreign(b'b', 'volume-1'),
            self.foreign(b'c', snapshot=''),
            self.foreign(b'd', 'easystack-upload.not-ours'),
            self.foreign(b'e', f'easystack-trash.{mine}')])
        with self.later(86400):
            self.engine.sweeper.sweep()
        self.assertEqual(names, self.names())


class CloneTest(EngineTest):

    def test_clone(self) -> None:
        """As Cinder makes it of the location."""
        data = noise(9 * MIB + 7)
        info = self.store(data)
        uri = self.engine.address_of(info).uri
        fsid, pool, name, snapshot = uri.removeprefix('rbd://').split('/')
        self.assertEqual((self.cluster.fsid, self.cluster.pool),
                         (fsid, pool))
        rbd.RBD().clone(self.ioctx, name, snapshot, self.ioctx, 'volume-1',
                        features=1)
        try:
            with rbd.Image(self.ioctx, 'volume-1') as volume:
                self.assertTrue(volume.read(0, volume.size()) == data)
                volume.write(b'changed', 0)
            self.assertRaises(exceptions.ImageInUse, self.engine.delete,
                              info.image_id)
            # It is served on, as it was.
            self.assertTrue(self.read(info.image_id) == data)
            self.assertEqual([info.image_id, 'volume-1'],
                             sorted(self.names()))
        finally:
            rbd.RBD().remove(self.ioctx, 'volume-1')
        self.engine.delete(info.image_id)
        self.assertEqual(([], []), (self.names(), self.objects()))

    def test_clone_where_we_may_see_nothing(self) -> None:
        """Cinder's and Nova's pools are not among Glance's rights."""
        name = 'volumes'
        if name not in self.cluster.ceph('osd', 'pool', 'ls'):
            self.cluster.ceph('osd', 'pool', 'create', name, '8', '8',
                              'replicated')
            self.cluster.rbd('pool', 'init', name)
            self.cluster.wait_clean()
        volumes = lab_module.pool(name)
        for form in (1, 2):
            info = self.store(noise(MIB))
            self.cluster.rbd(
                'clone', f'--rbd-default-clone-format={form}',
                f'{self.cluster.pool}/{info.image_id}@snap',
                f'{name}/volume-1')
            try:
                self.assertRaises(exceptions.ImageInUse, self.engine.delete,
                                  info.image_id)
                self.assertEqual(noise(MIB), self.read(info.image_id))
            finally:
                rbd.RBD().remove(volumes, 'volume-1')
            self.engine.delete(info.image_id)
            self.assertEqual(([], []), (self.names(), self.objects()))

    def test_snapshots_of_others(self) -> None:
        data = noise(MIB)
        made = self.store(data).image_id
        for image in (made, self.foreign(data)):
            with rbd.Image(self.ioctx, image) as opened:
                opened.create_snap('nightly')
            error = self.assertRaises(exceptions.ImageInUse,
                                      self.engine.delete, image)
            self.assertIn('nightly', str(error))
            self.assertTrue(self.read(image) == data)
            with rbd.Image(self.ioctx, image) as opened:
                opened.remove_snap('nightly')
            self.engine.delete(image)
        self.assertEqual(([], []), (self.names(), self.objects()))


class RenameTest(EngineTest):
    """librbd makes the new name, changes its list, removes the old name."""

    def lead(self, name: str, image: str) -> None:
        """Have one more name lead to an RBD image."""
        self.ioctx.write_full(f'rbd_id.{name}',
                              self.ioctx.read(f'rbd_id.{image}', 1000))

    def rests(self) -> list[str]:
        """Return the objects that lead from names to RBD images."""
        return [each.key for each in self.ioctx.list_objects()
                if each.key.startswith('rbd_id.')]

    def finished(self) -> layout.Upload:
        """Leave an upload that lacks nothing but its name."""
        info = self.store(noise(MIB))
        upload = layout.Upload(info.image_id, info.generation)
        rbd.RBD().rename(self.ioctx, info.image_id,
                         layout.upload_name(upload))
        return upload

    def check_stored(self, image: str) -> None:
        """See that an image is there as a whole, and nothing else."""
        self.assertEqual(([image], [f'rbd_id.{image}']),
                         (self.names(), self.rests()))
        self.assertEqual(noise(MIB), self.read(image))
        self.assertEqual(1, len(self.objects()))

    def check_gone(self, image: str) -> None:
        """See that nothing of an image is there, and its id is free."""
        self.assertEqual(([], [], []),
                         (self.names(), self.rests(), self.objects()))
        self.engine.write(image, sources.Source(noise(MIB)))
        self.check_stored(image)

    def test_upload_cut_short_and_swept(self) -> None:
        """It can be read under its id, so it must never be removed."""
        upload = self.finished()
        self.lead(upload.image_id, layout.upload_name(upload))
        self.assertEqual(noise(MIB), self.read(upload.image_id))
        with self.later(1000):
            self.engine.sweeper.sweep()
        self.check_stored(upload.image_id)

    def test_upload_cut_short_is_never_purged(self) -> None:
        upload = self.finished()
        name = layout.upload_name(upload)
        self.lead(upload.image_id, name)
        cluster = self.engine._connection.cluster()
        cluster.run(lambda: removal.purge(cluster, name, upload))
        self.assertEqual(noise(MIB), self.read(upload.image_id))
        self.engine.delete(upload.image_id)
        self.check_gone(upload.image_id)

    def test_upload_cut_short_and_deleted(self) -> None:
        upload = self.finished()
        self.lead(upload.image_id, layout.upload_name(upload))
        self.engine.delete(upload.image_id)
        self.check_gone(upload.image_id)

    def cut_short(self, times: int) -> Any:
        """Have the first renames to an id end after their first step."""
        rename = renames.rename
        left = [None] * times

        def fail(cluster: Any, name: str, new: str) -> None:
            if layout.is_image_id(new) and left:
                left.pop()
                if f'rbd_id.{new}' not in self.rests():
                    self.lead(new, name)
                raise rbd.Timeout('no answer', errno=errno.ETIMEDOUT)
            rename(cluster, name, new)

        return mock.patch.object(renames, 'rename', fail)

    def test_writer_finishes_it(self) -> None:
        with self.cut_short(1):
            info = self.store(noise(MIB))
        self.check_stored(info.image_id)

    def test_writer_takes_it_back(self) -> None:
        """What was refused is no image, and its id can be used again."""
        image = str(uuid.uuid4())
        with self.cut_short(2):
            self.assertRaises(exceptions.NotEnoughCopies, self.engine.write,
                              image, sources.Source(noise(MIB)))
        self.check_gone(image)

    def test_deletion_cut_short(self) -> None:
        """Before and after the list of names was changed."""
        for changed in (False, True):
            info = self.store(noise(MIB))
            upload = layout.Upload(info.image_id, info.generation)
            trash = layout.trash_name(upload)
            if changed:
                rbd.RBD().rename(self.ioctx, info.image_id, trash)
                self.lead(info.image_id, trash)
            else:
                self.lead(trash, info.image_id)
            self.engine.delete(info.image_id)
            self.check_gone(info.image_id)
            self.engine.delete(info.image_id)

    def test_deletion_cut_short_and_swept(self) -> None:
        info = self.store(noise(MIB))
        trash = layout.trash_name(
            layout.Upload(info.image_id, info.generation))
        self.lead(trash, info.image_id)
        self.engine.sweeper.sweep()
        self.assertEqual(noise(MIB), self.read(info.image_id))
        self.ioctx.remove_object(f'rbd_id.{trash}')
        rbd.RBD().rename(self.ioctx, info.image_id, trash)
        self.lead(info.image_id, trash)
        self.engine.sweeper.sweep()
        self.check_gone(info.image_id)

    def test_name_of_another(self) -> None:
        """Whatever Ceph answers, it is told as an error of ours."""
        info = self.store(noise(MIB))
        other = self.foreign(b'data', layout.trash_name(
            layout.Upload(info.image_id, info.generation)), snapshot='')
        self.assertRaises(exceptions.ImageUnavailable, self.engine.delete,
                          info.image_id)
        self.assertEqual(noise(MIB), self.read(info.image_id))
        with rbd.Image(self.ioctx, other, read_only=True) as image:
            self.assertEqual(b'data', image.read(0, 4))

    def test_snapshot_in_an_upload(self) -> None:
        def interfere() -> None:
            name, = self.names()
            with rbd.Image(self.ioctx, name) as image:
                image.create_snap('snap')

        self.assertRaises(
            exceptions.NotEnoughCopies, self.engine.write, str(uuid.uuid4()),
            sources.Source(noise(9 * MIB), at=5 * MIB, action=interfere))
        self.assertEqual(([], []), (self.names(), self.objects()))

    def test_deletion_of_which_the_rest_fails(self) -> None:
        """It is no image any more, so it is no error."""
        info = self.store(noise(MIB))

        def fail(image: Any) -> None:
            raise rbd.Timeout('no answer', errno=errno.ETIMEDOUT)

        with mock.patch.object(removal, 'drop_snapshot', fail):
            self.engine.delete(info.image_id)
        self.assertRaises(exceptions.ImageNotFound, self.engine.info,
                          info.image_id)
        self.engine.sweeper.sweep()
        self.check_gone(info.image_id)


    def test_deletion_of_which_the_rest_hangs(self) -> None:
        """It is no image any more, so it is no error, and no time-out."""
        engine = self.lab.engine(ceph_timeout=1)
        image = engine.write(str(uuid.uuid4()),
                             sources.Source(noise(MIB))).image_id
        answered, drop = threading.Event(), removal.drop_snapshot

        def hang(opened: Any) -> None:
            answered.wait(60)
            drop(opened)

        with mock.patch.object(removal, 'drop_snapshot', hang):
            engine.delete(image)
            self.assertRaises(exceptions.ImageNotFound, engine.info, image)
            answered.set()

        def swept() -> bool:
            self.engine.sweeper.sweep()
            return not self.names() and not self.objects()

        contract.eventually(swept, 'the rest is removed', 60)
        self.check_gone(image)


class SweepTest(EngineTest):

    def unfinished(self) -> str:
        """Leave an upload as if its process had died."""
        upload = layout.Upload(str(uuid.uuid4()), str(uuid.uuid4()))
        name = layout.upload_name(upload)
        self.foreign(b'data', name, snapshot='snap')
        self.ioctx.write_full(layout.manifest_name(upload), b'manifest')
        return name

    def test_unfinished_upload(self) -> None:
        name = self.unfinished()
        # It may be somebody's who has not come to open it yet.
        self.engine.sweeper.sweep()
        self.assertEqual([name], self.names())
        with self.later(1000):
            self.engine.sweeper.sweep()
        self.assertEqual(([], []), (self.names(), self.objects()))

    def test_upload_under_way(self) -> None:
        data = noise(9 * MIB)

        def sweep() -> None:
            with self.later(1000):
                self.lab.engine().sweeper.sweep()

        info = self.engine.write(
            str(uuid.uuid4()), sources.Source(data, at=5 * MIB,
                                              action=sweep))
        self.assertTrue(self.read(info.image_id) == data)
        self.assertEqual([info.image_id], self.names())

    def test_upload_removed_under_the_writer(self) -> None:
        """Whoever does that gets an error for an image, not a wrong one."""
        def remove() -> None:
            # No sweep does it: somebody watches.
            name, = self.names()
            with rbd.Image(self.ioctx, name, read_only=True) as image:
                self.assertEqual(1, len(list(image.watchers_list())))
            rbd.RBD().rename(self.ioctx, name, 'elsewhere')

        self.assertRaises(
            exceptions.BlockStoreError, self.engine.write, str(uuid.uuid4()),
            sources.Source(noise(9 * MIB), at=5 * MIB, action=remove))
        self.assertEqual([], list(self.engine.list_images()))

    def test_unfinished_deletion(self) -> None:
        info = self.store(noise(MIB))
        upload = layout.Upload(info.image_id, info.generation)
        rbd.RBD().rename(self.ioctx, info.image_id,
                         layout.trash_name(upload))
        self.assertRaises(exceptions.ImageNotFound, self.engine.info,
                          info.image_id)
        self.engine.sweeper.sweep()
        self.assertEqual(([], []), (self.names(), self.objects()))

    def test_upload_that_became_the_image_just_now(self) -> None:
        """Its watch was lost for a while; then a sweep comes too late."""
        info = self.store(noise(MIB))
        upload = layout.Upload(info.image_id, info.generation)
        cluster = self.engine._connection.cluster()
        cluster.run(lambda: removal.purge(
            cluster, layout.upload_name(upload), upload))
        self.assertEqual(noise(MIB), self.read(info.image_id))
        self.assertEqual(1, len(self.objects()))

    def test_removal_cut_short(self) -> None:
        """The process dies while librbd removes an RBD image."""
        for name in (layout.upload_name, layout.trash_name):
            upload = layout.Upload(str(uuid.uuid4()), str(uuid.uuid4()))
            rbd.RBD().create(self.ioctx, name(upload), 16 << 30, 20,
                             old_format=False, features=1)
            ledger.put(self.engine._connection.cluster(), layout.INDEX,
                       upload, 0.0)
            child = subprocess.Popen(
                [sys.executable, '-c', _REMOVE, str(self.cluster.conf),
                 self.cluster.pool, name(upload)],
                stdout=subprocess.PIPE)
            with child:
                self.assertEqual(b'begins\n', child.stdout.readline())
                contract.eventually(
                    functools.partial(self._gone, name(upload)),
                    'it is being removed')
                child.kill()
            self.assertIn(name(upload), self.names())

        def swept() -> bool:
            # Ceph takes the dead process for alive for half a minute.
            self.engine.sweeper.sweep()
            return not self.names()

        contract.eventually(swept, 'all is removed', 120)
        self.assertEqual({}, ledger.entries(
            self.engine._connection.cluster(), layout.INDEX))

    def _gone(self, name: str) -> bool:
        """Tell whether an RBD image cannot be opened any more."""
        try:
            with rbd.Image(self.ioctx, name, read_only=True):
                return False
        except rbd.ImageNotFound:
            return True

    def test_image_deleted_by_other_means(self) -> None:
        kept, info = self.store(b'kept'), self.store(b'data')
        with rbd.Image(self.ioctx, info.image_id) as image:
            image.unprotect_snap('snap')
            image.remove_snap('snap')
        rbd.RBD().remove(self.ioctx, info.image_id)
        self.assertEqual(2, len(self.objects()))
        self.engine.sweeper.sweep()
        self.assertEqual(1, len(self.objects()))
        self.assertEqual(b'kept', self.read(kept.image_id))

    def test_in_the_background(self) -> None:
        name = self.unfinished()
        with self.later(1000):
            engine = self.lab.engine(self_repair=True, sweep_interval=1)
            self.assertRaises(exceptions.ImageNotFound, engine.open,
                              str(uuid.uuid4()))
            contract.eventually(lambda: name not in self.names(),
                                'it is swept')
            engine.close()


#: Removes an RBD image, as a process of its own.
_REMOVE = """\
import sys
import rados
import rbd
conf, pool, name = sys.argv[1:]
handle = rados.Rados(conffile=conf, rados_id='admin')
handle.connect()
ioctx = handle.open_ioctx(pool)
print('begins', flush=True)
rbd.RBD().remove(ioctx, name)
"""


class DamageTest(EngineTest):

    def test_manifest(self) -> None:
        info = self.store(noise(MIB))
        name = layout.manifest_name(
            layout.Upload(info.image_id, info.generation))
        whole = self.ioctx.read(name, 10000)
        for harm in (lambda: self.ioctx.write(name, b'?', 70),
                     lambda: self.ioctx.trunc(name, 100),
                     lambda: self.ioctx.remove_object(name)):
            harm()
            for call in (self.engine.info, self.engine.open,
                         self.engine.repair):
                self.assertRaises(exceptions.DamagedImage, call,
                                  info.image_id)
            for copy in self.engine.list_copies(info.image_id):
                self.assertIs(contract.DAMAGED, copy.state)
                self.assertIn('manifest', copy.reason)
            self.ioctx.write_full(name, whole)
            self.assertEqual(info, self.engine.info(info.image_id))
        self.ioctx.remove_object(name)
        self.engine.delete(info.image_id)
        self.assertEqual(([], []), (self.names(), self.objects()))

    def test_is_noted_when_it_is_read(self) -> None:
        info = self.store(noise(2 * MIB))
        self.lab.damage('', info.image_id, MIB + 5)
        self.assertRaises(exceptions.DamagedImage, self.read, info.image_id)
        self.assertIsNotNone(self.engine.repair_requested_at(info.image_id))
        error = self.assertRaises(exceptions.DamagedImage,
                                  self.engine.repair, info.image_id)
        # Glance's rights do not suffice to have Ceph compare the copies.
        self.assertIn('ceph pg repair', str(error))
        self.lab.damage('', info.image_id, MIB + 5)
        self.engine.repair(info.image_id)
        self.assertIsNone(self.engine.repair_requested_at(info.image_id))

    def test_verified_at(self) -> None:
        info = self.store(noise(MIB))
        before = self.engine.list_copies(info.image_id)[0].verified_at
        self.engine.list_copies(info.image_id, verify=True)
        after = self.engine.list_copies(info.image_id)[0].verified_at
        self.assertLess(before, after)


class ZerosTest(EngineTest):
    """Blocks that are all zeros are neither written nor read."""

    def setUp(self) -> None:
        super().setUp()
        self.data = (bytes(3 * MIB) + noise(2 * MIB) + bytes(90 * MIB)
                     + noise(MIB, 2) + bytes(5 * MIB + 7))
        self.image = self.store(self.data).image_id

    def test_any_range(self) -> None:
        draw = random.Random(3)
        size = len(self.data)
        self.assertTrue(self.read(self.image) == self.data)
        for _ in range(30):
            offset = draw.randrange(size)
            length = draw.choice([draw.randrange(10), draw.randrange(size)])
            self.assertTrue(self.read(self.image, offset, length)
                            == self.data[offset:offset + length],
                            (offset, length))

    def test_something_where_zeros_should_be(self) -> None:
        """A download is right nevertheless; a scrub finds it."""
        with rbd.Image(self.ioctx, self.image, read_only=True) as image:
            prefix = image.block_name_prefix()
        self.ioctx.write(f'{prefix}.{6:016x}', b'?', 5)
        self.assertTrue(self.read(self.image) == self.data)
        for copy in self.engine.list_copies(self.image, verify=True):
            self.assertIs(contract.DAMAGED, copy.state)
        # It is known what should be there, whatever the copies have.
        self.engine.repair(self.image)
        self.assertEqual(b'\0', self.ioctx.read(f'{prefix}.{6:016x}', 1, 5))
        for copy in self.engine.list_copies(self.image, verify=True):
            self.assertIs(contract.GOOD, copy.state)


class WriteTest(EngineTest):

    def test_rbd_image(self) -> None:
        """As Nova and Cinder want it, and thin."""
        engine = self.lab.engine(ceph_object_size_mib=4)
        data = noise(4 * MIB) + bytes(8 * MIB) + noise(4 * MIB, 2)
        info = engine.write(str(uuid.uuid4()), sources.Source(data))
        with rbd.Image(self.ioctx, info.image_id, snapshot='snap',
                       read_only=True) as image:
            self.assertEqual(len(data), image.size())
            self.assertEqual(4 * MIB, image.stat()['obj_size'])
            self.assertTrue(image.is_protected_snap('snap'))
            self.assertEqual(rbd.RBD_FEATURE_LAYERING, image.features())
            self.assertEqual(info.generation,
                             image.metadata_get('easystack.generation'))
            prefix = image.block_name_prefix()
        self.assertEqual(
            [f'{prefix}.{number:016x}' for number in (0, 3)],
            sorted(each.key for each in self.ioctx.list_objects()
                   if each.key.startswith(prefix)))

    def test_data_pool_of_ceph_s_configuration(self) -> None:
        """The copies that are promised are those of the store's pool."""
        other = self.cluster.add_pool()
        option = 'rbd_default_data_pool'
        self.addCleanup(self.cluster.rbd, 'config', 'pool', 'remove',
                        self.cluster.pool, option)
        self.cluster.rbd('config', 'pool', 'set', self.cluster.pool, option,
                         other)
        info = self.store(noise(MIB))
        with rbd.Image(self.ioctx, info.image_id, read_only=True) as image:
            self.assertEqual(self.ioctx.get_pool_id(), image.data_pool_id())
            self.assertEqual(rbd.RBD_FEATURE_LAYERING, image.features())

    def test_growing(self) -> None:
        """An image whose size nobody tells, of several steps."""
        step = 8 * MIB
        data = noise(step + 5) + bytes(3 * step) + noise(step)
        with mock.patch.object(writer, 'STEP', step):
            info = self.engine.write(str(uuid.uuid4()),
                                     sources.Source(data))
        self.assertEqual(len(data), info.size)
        self.assertTrue(self.read(info.image_id) == data)
        with rbd.Image(self.ioctx, info.image_id, read_only=True) as image:
            self.assertEqual(len(data), image.size())

    def test_many_race_for_one_id(self) -> None:
        """Of those who come to their end at the same moment, one wins."""
        for _ in range(5):
            image, meeting = str(uuid.uuid4()), threading.Barrier(4)

            def write(number: int, image: str = image,
                      meeting: threading.Barrier = meeting) -> bool:
                data = noise(MIB, number)
                try:
                    info = self.engine.write(image, sources.Source(
                        data, at=MIB, action=lambda: meeting.wait(60)))
                except exceptions.ImageExists:
                    return False
                return (info == self.engine.info(image)
                        and self.read(image) == data)

            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                won = list(pool.map(write, range(4)))
            self.assertEqual(1, sum(won), won)
            self.assertEqual([image], self.names())
            self.engine.delete(image)
        self.assertEqual([], self.objects())

    def test_full_pool(self) -> None:
        info = self.store(noise(2 * MIB))
        self.addCleanup(self.cluster.set_quota, 0)
        self.cluster.set_quota(MIB)
        self.cluster.wait_full()
        error = self.assertRaises(
            exceptions.NotEnoughCopies, self.engine.write,
            str(uuid.uuid4()), sources.Source(noise(9 * MIB)))
        self.assertIn(error.causes[0].errno, removal.FULL)
        self.assertEqual(f'pool {self.cluster.pool} is at its quota of '
                         f'{MIB} bytes', error.place)
        self.assertIn('pool-full', [each.what for each in
                                    self.engine.problems() if each.outage])
        # What is there is served, and can be deleted to make room.
        self.assertEqual(noise(2 * MIB), self.read(info.image_id))
        self.engine.delete(info.image_id)
        self.assertEqual(([], []), (self.names(), self.objects()))

    def test_rename_whose_answer_is_lost(self) -> None:
        """It is looked at whether it was done."""
        cluster = self.engine._connection.cluster()
        run = connection.Cluster.run
        lost = []

        def lose(self: Any, function: Any, *arguments: Any,
                 **others: Any) -> Any:
            result = run(self, function, *arguments, **others)
            if 'commit' in function.__qualname__ and not lost:
                lost.append(function)
                raise exceptions.DeviceTimeout(cluster.name, 'no answer')
            return result

        with mock.patch.object(connection.Cluster, 'run', lose):
            info = self.store(noise(5))
        self.assertEqual(1, len(lost))
        self.assertEqual(noise(5), self.read(info.image_id))
        self.assertEqual([info.image_id], self.names())
