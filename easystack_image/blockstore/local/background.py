"""What a process that serves images does on the side.

One thread per process repairs what uploads and downloads found missing or
damaged, and now and then sweeps.  It is started when it is first needed, in
the process that needs it: threads do not survive a fork.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
import logging
import os
import threading
import time
from typing import Protocol
import weakref

from easystack_image import exceptions
from easystack_image.blockstore.local import layout

LOG = logging.getLogger(__name__)


class Repairer(Protocol):
    """What verifies and repairs images, and keeps marks of them."""

    def mark(self, upload: layout.Upload) -> None:
        """Note that an image is to be repaired."""

    def marked(self) -> set[layout.Upload]:
        """Return the images that are to be repaired."""

    def unmark(self, uploads: set[layout.Upload]) -> None:
        """Note that images need no repair any more."""

    def given_up(self) -> set[str]:
        """Return the ids of images that need not be tried for now."""

    def present(self) -> frozenset[str]:
        """Return what is there of what a repair may need."""

    def repair(self, image_id: str, wait: bool = True,
               patient: bool = False) -> bool | None:
        """Repair an image; return whether that is done."""


class Sweeper(Protocol):
    """What removes what crashes left."""

    def sweep(self) -> None:
        """Remove it."""


class Background:
    """The thread and what it has to do.

    :param interval: seconds between sweeps
    """

    def __init__(self, repairer: Repairer, sweeper: Sweeper,
                 interval: float) -> None:
        self._repairer = repairer
        self._sweeper = sweeper
        self._interval = interval
        self._reset()
        # A thread does not survive a fork; the child starts its own.
        reset = weakref.WeakMethod(self._reset)
        os.register_at_fork(
            after_in_child=lambda: (method := reset()) and method())

    def _reset(self) -> None:
        self._thread: threading.Thread | None = None
        self._condition = threading.Condition()
        self._waiting: dict[str, layout.Upload] = {}
        #: Names of those that wait and have their mark.
        self._marked: set[str] = set()
        #: When a repair could not be finished, and which devices were there.
        #: Trying again reads all copies, so it waits.
        self._tried: dict[str, tuple[float, frozenset[str]]] = {}
        self._stopped = False

    def ensure(self) -> None:
        """Start the thread, unless it runs already in this process."""
        if self._thread is None:
            with self._condition:
                if self._thread is None and not self._stopped:
                    self._thread = threading.Thread(
                        target=self._run, name='easystack-block-repair',
                        daemon=True)
                    self._thread.start()

    def notice(self, upload: layout.Upload, again: bool = False) -> None:
        """Have an image repaired soon.

        If that was tried in vain not long ago, it waits for the next sweep.

        :param again: whether to try even so
        """
        self.ensure()
        tried, _ = self._tried.get(upload.name, (-self._interval, None))
        if time.monotonic() < tried + self._interval and not again:
            return
        self._enqueue(upload)

    def _enqueue(self, upload: layout.Upload) -> None:
        with self._condition:
            if upload.name not in self._waiting:
                self._waiting[upload.name] = upload
                self._condition.notify_all()

    def stop(self) -> None:
        """End the thread; what waits is left to its mark on the devices."""
        thread = self._thread
        with self._condition:
            self._stopped = True
            self._condition.notify_all()
        if thread is not None:
            thread.join(5.0)
        self._mark_waiting()

    def _run(self) -> None:
        next_sweep = time.monotonic()
        while not self._stopped:
            if time.monotonic() >= next_sweep:
                self._guard(self._sweeper.sweep)
                self._guard(self._find_marked)
                next_sweep = time.monotonic() + self._interval
            with self._condition:
                if not self._waiting and not self._stopped:
                    self._condition.wait(
                        max(0.0, next_sweep - time.monotonic()))
            self._mark_waiting()
            with self._condition:
                if self._stopped or not self._waiting:
                    continue
                # Out of the queue before it begins: what is noticed from now
                # on may be where the repair has passed already.
                upload = self._waiting.pop(next(iter(self._waiting)))
            self._guard(functools.partial(self._repair, upload))

    def _mark_waiting(self) -> None:
        """Note on the devices what waits, in case this process ends."""
        with self._condition:
            unmarked = [upload for name, upload in self._waiting.items()
                        if name not in self._marked]
        for upload in unmarked:
            self._guard(functools.partial(self._repairer.mark, upload))
            self._marked.add(upload.name)

    def _find_marked(self) -> None:
        given_up = self._repairer.given_up()
        marked = {upload for upload in self._repairer.marked()
                  if upload.image_id not in given_up}
        present = self._repairer.present()
        names = {upload.name for upload in marked}
        self._tried = {name: attempt for name, attempt in
                       self._tried.items() if name in names}
        for upload in marked:
            _, devices = self._tried.get(upload.name, (0.0, None))
            if devices != present:
                self._enqueue(upload)

    def _repair(self, upload: layout.Upload) -> None:
        self._marked.discard(upload.name)
        if upload.image_id in self._repairer.given_up():
            # Each download of it would have all of it read.
            return
        present = self._repairer.present()
        try:
            done = self._repairer.repair(upload.image_id, wait=False,
                                         patient=True)
        except exceptions.ImageNotFound:
            self._repairer.unmark({upload})
            return
        except exceptions.BlockStoreError:
            self._tried[upload.name] = time.monotonic(), present
            raise
        if done is False:
            self._tried[upload.name] = time.monotonic(), present
        elif done:
            self._tried.pop(upload.name, None)

    def _guard(self, function: Callable[[], object]) -> None:
        """Do something that must not end the thread."""
        try:
            function()
        except exceptions.BlockStoreError as error:
            LOG.error('Self-repair: %s; it is tried again later.', error)
        except Exception:
            LOG.exception('Self-repair failed; it is tried again later.')
