"""A laboratory for the ceph engine: a pool of the cluster of the tests.

The copies are in the cluster's hands, so there is no getting at a single one:
only tests about whole images are run here.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import fixtures
import rados
import rbd

from easystack_image.blockstore import pipeline
from easystack_image.blockstore.ceph import engine as engine_module
from easystack_image.blockstore.local import manifest
from tests.ceph import cluster as cluster_module
from tests.contract import base as contract
from tests.contract import lab

#: Seconds for one operation of Ceph, on a machine that is busy with other
#: things; an engine has 30 by default.
PATIENCE = 60
#: Objects of RBD images, and of ours.
_KINDS = ('easystack-', 'rbd_id.', 'rbd_header.', 'rbd_object_map.',
          'rbd_data.')
#: The object in whose omap RBD lists its images.
_LIST = 'rbd_directory'
#: Names of objects, enough that each OSD has the first copy of one of them.
PROBES = [f'probe.{number}' for number in range(64)]


def options() -> dict[str, Any]:
    """Return the options of an engine on the cluster of the tests."""
    cluster = cluster_module.shared()
    return {'copies': 3, 'min_copies': 2, 'self_repair': True,
            'sweep_interval': 300, 'ceph_pool': cluster.pool,
            'ceph_user': cluster.user, 'ceph_conf': str(cluster.conf),
            'ceph_object_size_mib': 8, 'ceph_timeout': PATIENCE,
            'ceph_queue_depth': 8}


@functools.cache
def pool(name: str = '') -> Any:
    """Return a pool, over a connection that lasts as long as the process.

    As nobody but the engine's users has it.

    :param name: by default, of the pool for images
    """
    cluster = cluster_module.shared()
    handle = rados.Rados(conffile=str(cluster.conf), rados_id='admin')
    handle.connect(timeout=cluster_module.PATIENCE)
    return handle.open_ioctx(name or cluster.pool)


@functools.cache
def _keep_connection() -> engine_module.CephEngine:
    """Have the connection that engines share open, to all OSDs.

    It opens sockets as it needs them, which would look as if the test that
    happens to need one had left it behind.
    """
    engine = engine_module.CephEngine.from_options(options())
    engine.start()
    cluster = engine._connection.cluster()
    for name in PROBES:
        with contextlib.suppress(rados.ObjectNotFound):
            cluster.ioctx.stat(name)
    engine.problems()
    return engine


class CephLab(lab.Lab):
    """The pool that all labs share, empty."""

    name = 'ceph'
    block_size = manifest.BLOCK_SIZE
    chunk_size = pipeline.CHUNK_SIZE

    def _setUp(self) -> None:
        self._ioctx = pool()
        # Its OSDs have been up for long, unless a test says otherwise.
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.blockstore.ceph.replicas.SETTLING', 0.2))
        _keep_connection()
        name = cluster_module.shared().pool
        self.devices = [f'{name}/{number}' for number in (1, 2, 3)]
        self.empty()
        self.addCleanup(self.empty)

    def empty(self) -> None:
        """Empty the pool, also of what a test left that did not end well.

        Names and lists may lead to nothing then, and the cluster may take
        whoever wrote an image for alive for a while.
        """
        contract.eventually(self._removed, 'all RBD images go', PATIENCE)
        for each in list(self._ioctx.list_objects()):
            if each.key.startswith(_KINDS):
                with contextlib.suppress(rados.ObjectNotFound):
                    self._ioctx.remove_object(each.key)
        with (contextlib.suppress(rados.ObjectNotFound),
              rados.WriteOpCtx() as operation):
            self._ioctx.clear_omap(operation)
            self._ioctx.operate_write_op(operation, _LIST)

    def _removed(self) -> bool:
        """Remove all RBD images; return whether none is in use."""
        removed = True
        for name in rbd.RBD().list(self._ioctx):
            try:
                self._remove(name)
            except rbd.ImageNotFound:
                # Only its name is there.
                pass
            except rbd.ImageBusy:
                removed = False
        return removed

    def _remove(self, name: str) -> None:
        with rbd.Image(self._ioctx, name) as image:
            for snapshot in list(image.list_snaps()):
                if image.is_protected_snap(snapshot['name']):
                    image.unprotect_snap(snapshot['name'])
                image.remove_snap(snapshot['name'])
        rbd.RBD().remove(self._ioctx, name)

    def options(self) -> dict[str, Any]:
        return options()

    def engine_class(self) -> type[engine_module.CephEngine]:
        return engine_module.CephEngine

    def failing_options(self) -> dict[str, Any]:
        return {**self.options(), 'ceph_object_size_mib': 3}

    def housekeeping(self, made: Any) -> None:
        made.sweeper.sweep()

    def content(self, device: str, image_id: str) -> bytes | None:
        """Return what the cluster has, as whoever clones it would see it."""
        try:
            with rbd.Image(self._ioctx, image_id, snapshot='snap',
                           read_only=True) as image:
                return bytes(image.read(0, image.size()))
        except rbd.ImageNotFound:
            return None

    def damage(self, device: str, image_id: str, offset: int) -> None:
        """Change one byte, in all copies: Ceph notices nothing."""
        with rbd.Image(self._ioctx, image_id, read_only=True) as image:
            stat = image.stat()
            prefix = image.block_name_prefix()
        number, offset = divmod(offset, stat['obj_size'])
        name = f'{prefix}.{number:016x}'
        byte = self._ioctx.read(name, 1, offset)
        self._ioctx.write(name, bytes([byte[0] ^ 0xff]), offset)

    def drop(self, device: str, image_id: str) -> None:
        raise NotImplementedError("the copies are the cluster's")

    def take_away(self, device: str) -> None:
        raise NotImplementedError("the copies are the cluster's")

    def bring_back(self, device: str) -> None:
        raise NotImplementedError("the copies are the cluster's")

    def fill(self, device: str) -> None:
        raise NotImplementedError("the copies are the cluster's")

    def make_room(self, device: str) -> None:
        raise NotImplementedError("the copies are the cluster's")

    def put_aside(self, image_id: str) -> int:
        # Ceph repairs what it can in place.
        return 0

    def leftovers(self) -> list[str]:
        images = [name for name in rbd.RBD().list(self._ioctx)
                  if name.startswith('easystack-')]
        stored = set(rbd.RBD().list(self._ioctx))
        return images + [
            each.key for each in self._ioctx.list_objects()
            if each.key.startswith('easystack-manifest.')
            and each.key.split('.')[1] not in stored]
