"""Writes that are under way, a bounded number of them."""

from __future__ import annotations

import threading
from typing import Any

from easystack_image import exceptions
from easystack_image.blockstore.ceph import bindings
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.local import timed


class WriteQueue:
    """Writes to one RBD image, side by side.

    :param image: the RBD image, open for writing
    :param depth: how many may be under way
    """

    def __init__(self, cluster: connection.Cluster, image: Any,
                 depth: int) -> None:
        self._cluster = cluster
        self._image = image
        self._depth = depth
        self._condition = threading.Condition()
        self._under_way = 0
        #: What the first write that failed returned.
        self._failed = 0

    def write(self, data: bytes, offset: int) -> None:
        """Write bytes, later; wait if too many writes are under way.

        :raises easystack_image.exceptions.DeviceError: if an earlier one
            failed, or none comes to its end in time
        """
        self._wait_until(self._depth - 1)
        with self._condition:
            self._under_way += 1
        try:
            self._image.aio_write(data, offset, self._done)
        except BaseException as error:
            with self._condition:
                self._under_way -= 1
            if isinstance(error, bindings.rbd().Error):
                raise self._cluster.failure(error) from error
            raise

    def _done(self, completion: Any) -> None:
        """Note the end of a write; called by a thread of librbd."""
        with self._condition:
            self._under_way -= 1
            if completion.get_return_value() < 0 and not self._failed:
                self._failed = completion.get_return_value()
            self._condition.notify_all()

    def drain(self) -> None:
        """Wait for all writes; raises as :meth:`write`."""
        self._wait_until(0)

    def _wait_until(self, most: int) -> None:
        """Wait until at most so many are under way."""
        def few(seconds: float) -> bool:
            with self._condition:
                return self._condition.wait_for(
                    lambda: self._under_way <= most or bool(self._failed),
                    seconds)

        came = timed.Patience(self._cluster.limit).wait(few)
        if self._failed:
            raise self._cluster.failure(self._failed)
        if not came:
            raise exceptions.DeviceTimeout(
                self._cluster.name, 'a write did not end within '
                f'{self._cluster.limit:g} s')
