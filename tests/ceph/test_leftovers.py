"""Names, locks, books and manifests that others left, or want back."""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from typing import Any
from unittest import mock
import uuid

import rados
import rbd

from easystack_image import exceptions
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.ceph import layout
from easystack_image.blockstore.ceph import ledger
from easystack_image.blockstore.ceph import locks
from easystack_image.blockstore.ceph import removal
from easystack_image.blockstore.ceph import sweep
from tests.ceph import test_engine
from tests.contract import base as contract
from tests.contract import sources
from tests.contract.sources import noise

MIB = test_engine.MIB
#: An id that Ceph gave to an RBD image which is gone.
GONE = 'ffffffffffff'


def encoded(text: str) -> bytes:
    """Return a string as Ceph writes it."""
    return struct.pack('<I', len(text)) + text.encode()


class NameTest(test_engine.EngineTest):
    """A name that leads to nothing does not block an id."""

    def lead(self, name: str, internal: str, ago: float = 3600) -> None:
        """Have a name lead to an RBD image, since a while."""
        with rados.WriteOpCtx() as operation:
            operation.write_full(encoded(internal))
            self.ioctx.operate_write_op(operation, f'rbd_id.{name}',
                                        int(time.time() - ago))

    def list(self, name: str, internal: str) -> None:
        """Enter a name in RBD's list."""
        with rados.WriteOpCtx() as operation:
            self.ioctx.set_omap(
                operation, (f'name_{name}', f'id_{internal}'),
                (encoded(internal), encoded(name)))
            self.ioctx.operate_write_op(operation, 'rbd_directory')

    def check_free(self, image: str) -> None:
        """See that an image can be stored under an id, and deleted."""
        self.engine.write(image, sources.Source(noise(MIB)))
        self.assertEqual(noise(MIB), self.read(image))
        self.assertEqual([image], self.names())
        self.engine.delete(image)
        self.assertEqual(([], []), (self.names(), self.objects()))
        self.assertEqual([], [each.key for each in self.ioctx.list_objects()
                              if each.key.startswith('rbd_id.')])

    def test_object_of_a_name(self) -> None:
        image = str(uuid.uuid4())
        self.lead(image, GONE)
        self.check_free(image)

    def test_entry_in_the_list(self) -> None:
        image = str(uuid.uuid4())
        self.list(image, GONE)
        self.check_free(image)

    def test_both(self) -> None:
        image = str(uuid.uuid4())
        self.lead(image, GONE)
        self.list(image, GONE)
        self.check_free(image)

    def test_the_next_test_finds_nothing(self) -> None:
        """What a test leaves that failed is not for others to stumble on."""
        self.lead('somebody', GONE)
        self.list('nobody', GONE)
        self.ioctx.write_full('rbd_data.1.0', b'data')
        with rbd.Image(self.ioctx, self.store(noise(5)).image_id) as image:
            image.create_snap('another')
        self.lab.empty()
        self.assertEqual([], self.names())
        self.assertEqual([], [
            each.key for each in self.ioctx.list_objects()
            if each.key.startswith(('rbd_id', 'rbd_data', 'rbd_header',
                                    'easystack-'))])

    def test_somebody_may_be_making_it(self) -> None:
        image = str(uuid.uuid4())
        self.lead(image, GONE, ago=0)
        error = self.assertRaises(
            exceptions.ImageBusy, self.engine.write, image,
            sources.Source(noise(MIB)))
        self.assertIn('try again', str(error))
        self.assertEqual(encoded(GONE),
                         self.ioctx.read(f'rbd_id.{image}'))
        self.ioctx.remove_object(f'rbd_id.{image}')
        self.assertEqual(([], []), (self.names(), self.objects()))

    def test_image_of_another_name(self) -> None:
        """What is there stays, even if only its list tells of it."""
        other, image = self.foreign(noise(MIB), 'other'), str(uuid.uuid4())
        with rbd.Image(self.ioctx, other, read_only=True) as opened:
            internal = opened.id()
        self.lead(image, internal)
        self.assertRaises(exceptions.ImageExists, self.engine.write, image,
                          sources.Source(noise(5)))
        self.assertEqual(encoded(internal),
                         self.ioctx.read(f'rbd_id.{image}'))
        self.assertEqual(['other'], self.names())
        self.ioctx.remove_object(f'rbd_id.{image}')


class LockTest(test_engine.EngineTest):

    def setUp(self) -> None:
        super().setUp()
        # 12 seconds for an operation, 2 of them for a lock.
        self.hasty = self.lab.engine(ceph_timeout=4)
        self.cluster_ = self.hasty._connection.cluster()

    def test_owner_died(self) -> None:
        """His lock ends before others have waited long enough."""
        image = str(uuid.uuid4())
        lease = locks.Lease(self.cluster_, f'rename.{image[:2]}',
                            locks.lifetime(self.cluster_))
        self.assertTrue(lease.take())
        lease.leave()
        self.hasty.write(image, sources.Source(noise(MIB)))
        self.assertEqual(noise(MIB), self.read(image))

    def test_renewed_while_it_is_held(self) -> None:
        image = str(uuid.uuid4())
        seconds = locks.lifetime(self.cluster_)
        with locks.exclusively(self.cluster_, image) as lease:
            deadline = time.monotonic() + 2.5 * seconds
            while time.monotonic() < deadline:
                other = locks.Lease(self.cluster_, f'rename.{image[:2]}', 1)
                self.assertFalse(other.take())
                time.sleep(0.2)
            lease.check()

    def test_lost(self) -> None:
        """Whoever was not heard of does nothing more under his lock."""
        image = str(uuid.uuid4())
        with locks.exclusively(self.cluster_, image) as lease:
            self.ioctx.remove_object(layout.INDEX)
            time.sleep(locks.lifetime(self.cluster_) + 0.5)
            self.assertRaises(exceptions.DeviceTimeout, lease.check)

    def test_kept(self) -> None:
        image = str(uuid.uuid4())
        with locks.exclusively(self.cluster_, image):
            error = self.assertRaises(
                exceptions.ImageBusy, self.hasty.write, image,
                sources.Source(noise(MIB)))
        self.assertIn('try again', str(error))
        # Nor could it be removed.
        with self.later(1000):
            self.engine.sweeper.sweep()
        self.assertEqual(([], []), (self.names(), self.objects()))


class WriterTest(test_engine.EngineTest):
    """The pool changes under an upload that is under way."""

    def test_watch_that_comes_back(self) -> None:
        """A sweep that found nobody looks once more, under the lock."""
        removed = []

        def discard() -> None:
            upload = layout.unfinished(*self.names())
            cluster = self.engine._connection.cluster()
            removed.append(cluster.run(
                lambda: removal.discard(cluster, upload)))

        info = self.engine.write(str(uuid.uuid4()), sources.Source(
            noise(9 * MIB), at=5 * MIB, action=discard))
        self.assertEqual([False], removed)
        self.assertTrue(self.read(info.image_id) == noise(9 * MIB))

    def sweep_upload(self) -> None:
        """Remove the upload, as if its writer had lost its watch."""
        name, = self.names()
        with rbd.Image(self.ioctx, name, read_only=True) as image:
            header = f'rbd_header.{image.id()}'
            prefix = image.block_name_prefix()
        for each in list(self.ioctx.list_objects()):
            if each.key.startswith(prefix):
                self.ioctx.remove_object(each.key)
        for each in (header, f'rbd_id.{name}'):
            self.ioctx.remove_object(each)
        with rados.WriteOpCtx() as operation:
            self.ioctx.remove_omap_keys(operation, (
                f'name_{name}', f'id_{header.partition(".")[2]}'))
            self.ioctx.operate_write_op(operation, 'rbd_directory')

    def test_upload_swept(self) -> None:
        """The writer is told so; what he wrote since goes, too.

        He notices it where an image of unknown size grows, or at the end.
        """
        for size in (None, 29 * MIB):
            error = self.assertRaises(
                exceptions.NotEnoughCopies, self.engine.write,
                str(uuid.uuid4()), sources.Source(
                    noise(29 * MIB), at=9 * MIB, action=self.sweep_upload),
                size)
            self.assertIn('removed by somebody else', str(error))
            self.assertEqual([], [
                each.key for each in self.ioctx.list_objects()
                if each.key.startswith(('rbd_data', 'rbd_id', 'rbd_header',
                                        'easystack-manifest'))])

    def test_snapshot_gone_before_the_commit(self) -> None:
        """An upload that a sweep has begun to remove never becomes one."""
        seal = test_engine.writer.Upload._seal

        def strip(upload: Any, manifest: bytes) -> None:
            seal(upload, manifest)
            removal.drop_snapshot(upload._image)

        with mock.patch.object(test_engine.writer.Upload, '_seal', strip):
            error = self.assertRaises(
                exceptions.NotEnoughCopies, self.engine.write,
                str(uuid.uuid4()), sources.Source(noise(MIB)))
        self.assertIn('removed by somebody else', str(error))
        self.assertEqual(([], []), (self.names(), self.objects()))


class TrashTest(test_engine.EngineTest):
    """RBD's own trash, where operators put what they may want back."""

    def test_moved_there_and_restored(self) -> None:
        info = self.store(noise(MIB))
        with rbd.Image(self.ioctx, info.image_id, read_only=True) as image:
            internal = image.id()
        rbd.RBD().trash_move(self.ioctx, info.image_id, 0)
        self.assertRaises(exceptions.ImageNotFound, self.engine.info,
                          info.image_id)
        for _ in range(2):
            self.engine.sweeper.sweep()
        rbd.RBD().trash_restore(self.ioctx, internal, info.image_id)
        self.assertEqual(info, self.engine.info(info.image_id))
        self.assertEqual(noise(MIB), self.read(info.image_id))
        for copy in self.engine.list_copies(info.image_id, verify=True):
            self.assertEqual((contract.GOOD, ''), (copy.state, copy.reason))

    def test_purged_there(self) -> None:
        info = self.store(noise(MIB))
        with rbd.Image(self.ioctx, info.image_id) as image:
            internal = image.id()
            removal.drop_snapshot(image)
        rbd.RBD().trash_move(self.ioctx, info.image_id, 0)
        rbd.RBD().trash_remove(self.ioctx, internal)
        self.engine.sweeper.sweep()
        self.assertEqual([], self.objects())

    def test_restoration_cut_short(self) -> None:
        """Librbd gives up what a process began to restore and left."""
        info = self.store(noise(MIB))
        upload = layout.Upload(info.image_id, info.generation)
        name = layout.trash_name(upload)
        rbd.RBD().rename(self.ioctx, info.image_id, name)
        with rbd.Image(self.ioctx, name) as image:
            internal = image.id()
            removal.drop_snapshot(image)
        entry = encoded(name)
        self.ioctx.remove_object(f'rbd_id.{name}')
        # As cls_rbd encodes it: because it is removed, being restored.
        value = (b'\x03' + entry + struct.pack('<I', int(time.time()))
                 + bytes(12) + b'\x03')
        with rados.WriteOpCtx() as operation:
            self.ioctx.set_omap(
                operation, (f'id_{internal}',),
                (b'\x02\x01' + struct.pack('<I', len(value)) + value,))
            self.ioctx.operate_write_op(operation, 'rbd_trash')
        with rados.WriteOpCtx() as operation:
            self.ioctx.remove_omap_keys(
                operation, (f'name_{name}', f'id_{internal}'))
            self.ioctx.operate_write_op(operation, 'rbd_directory')
        self.assertEqual([name], self.names())
        self.assertRaises(rbd.ImageBusy, rbd.RBD().remove, self.ioctx, name)

        # It may be somebody's who is at it just now.
        self.engine.sweeper.sweep()
        self.assertEqual([name], self.names())
        with self.later(1000):
            for _ in range(2):
                self.engine.sweeper.sweep()
        self.assertEqual(([], []), (self.names(), self.objects()))


class FullTest(test_engine.EngineTest):
    """Deletions in a full pool, which takes no new name."""

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.cluster.mend)

    def fill(self) -> None:
        self.cluster.set_quota(1)
        self.cluster.wait_full()

    def test_where_nothing_is_prepared(self) -> None:
        """The first deletion of all, of an image of another driver."""
        image = self.foreign(noise(MIB))
        for name in ('rbd_trash', layout.INDEX, layout.DELETIONS,
                     layout.UPLOADS):
            with contextlib.suppress(rados.ObjectNotFound):
                self.ioctx.remove_object(name)
        self.fill()
        self.engine.delete(image)
        self.assertEqual(([], []), (self.names(), self.objects()))

    def test_marked_and_not_begun(self) -> None:
        """Nobody was told that it is deleted, so it stays an image."""
        info = self.store(noise(MIB))
        upload = layout.Upload(info.image_id, info.generation)
        cluster = self.engine._connection.cluster()
        ledger.put(cluster, layout.DELETIONS, upload, 0.0)
        with rbd.Image(self.ioctx, info.image_id) as image:
            image.unprotect_snap('snap')
        self.engine.sweeper.sweep()
        self.assertEqual(noise(MIB), self.read(info.image_id))
        with rbd.Image(self.ioctx, info.image_id, read_only=True) as image:
            self.assertTrue(image.is_protected_snap('snap'))
        self.assertEqual({}, ledger.entries(cluster, layout.DELETIONS))

    def test_mark_of_another(self) -> None:
        """The id is another image's by now."""
        info = self.store(noise(MIB))
        cluster = self.engine._connection.cluster()
        ledger.put(cluster, layout.DELETIONS,
                   layout.Upload(info.image_id, str(uuid.uuid4())), 0.0)
        self.engine.sweeper.sweep()
        self.assertEqual(noise(MIB), self.read(info.image_id))
        self.assertEqual(1, len(self.objects()))


class TurnTest(test_engine.EngineTest):
    """Of many processes one sweeps, and looks at little."""

    def test_one_at_a_time(self) -> None:
        swept, meeting = [], threading.Event()

        class Sweeper(sweep.Sweeper):
            def sweep(self) -> None:
                swept.append(self)
                # Longer than its turn would last by itself.
                meeting.wait(4)
                super().sweep()

        engines = [self.lab.engine(), self.lab.engine(ceph_timeout=29)]
        turns = [sweep.Turns(Sweeper(each._connection.cluster),
                             each._connection.cluster, 2)
                 for each in engines]
        first = threading.Thread(target=turns[0].sweep)
        first.start()
        contract.eventually(lambda: swept, 'the first one begins')
        for _ in range(6):
            turns[1].sweep()
            time.sleep(0.5)
        self.assertEqual(1, len(swept))
        meeting.set()
        first.join()
        turns[1].sweep()
        self.assertEqual(1, len(swept))

        def again() -> bool:
            turns[1].sweep()
            return len(swept) == 2

        contract.eventually(again, 'it is the turn of the other one', 10)

    def test_images_that_did_not_change(self) -> None:
        for number in range(3):
            self.store(noise(5, number))
        self.engine.sweeper.sweep()
        opened = []
        real = connection.Cluster.open

        def note(cluster: Any, name: Any, *more: Any, **others: Any) -> Any:
            opened.append(name)
            return real(cluster, name, *more, **others)

        with mock.patch.object(connection.Cluster, 'open', note):
            self.engine.sweeper.sweep()
        self.assertEqual([], opened)
