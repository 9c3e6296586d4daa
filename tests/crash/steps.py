"""The steps of a process: every change that it makes to its devices.

All of them go through :mod:`easystack_image.fsio`, so that
counting the calls of its functions counts the steps, and a crash can be put
before, after or in the middle of any one of them.  On one device the steps
come in the same order each time, because one thread makes them; how far the
other devices are by then does not repeat.  A step is therefore named by its
device and its number on that device, and the others are either held back, so
that none makes its step of that number first, or let go ahead, so that all
have made it: that gives both ends of what can happen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import functools
import inspect
import os
import re
import signal
import sys
import threading
import time
from typing import Any, NoReturn

from easystack_image import fsio

#: What changes something, one system call each.
CHANGES = ('mkdir', 'create', 'write_at', 'truncate', 'fsync', 'rename',
           'sync_file_system', 'symlink', 'unlink', 'rmdir')
#: What is made of these, or changes nothing.
OTHERS = ('open_directory', 'directory', 'remove_tree', 'write_file',
          'read_file', 'exists')

#: How long a step waits for those of other devices that should come first, in
#: seconds.  Some never come: not every device has as many steps.
LIMIT = 0.02
#: How long a step is delayed for the others to go even further, in seconds.
DELAY = 0.003
#: How long to wait for what should come soon, in seconds.
PATIENCE = 20.0
#: Names of files that are there to be locked.
_LOCK = re.compile('(commit|repair)[.][0-9a-f]{2}|heal|(.*/)?lock')

#: Changes that Python reports by itself, whoever makes them.
_AUDITED = {'os.mkdir', 'os.rename', 'os.remove', 'os.rmdir', 'os.truncate',
            'os.link', 'os.symlink'}


@dataclasses.dataclass(frozen=True)
class Cut:
    """Where a process is to be stopped."""

    #: Index of the device.
    device: int
    #: The how manieth step on it, from 1.
    number: int
    #: 'before', 'middle' (of a write) or 'after'.
    moment: str = 'before'
    #: Whether the others are 'behind' or 'ahead' then.
    others: str = 'behind'
    #: Whether its process group is frozen (SIGSTOP) rather than killed.
    freeze: bool = False

    def __str__(self) -> str:
        what = 'frozen' if self.freeze else 'killed'
        return (f'{what} {self.moment} step {self.number} on device '
                f'{self.device}, the others {self.others}')


def kill_group() -> NoReturn:
    """Kill all processes of this process's group, itself included."""
    os.killpg(0, signal.SIGKILL)
    while True:
        signal.pause()


class Counter:
    """Counts the steps, tells of them, and stops the process at one.

    :param devices: paths of the devices
    :param cut: where to stop, or None
    :param tell: called with what happens, as keyword arguments
    :param brief: whether to tell of no other step than the one of the cut
    :param elsewhere: where changes may be made by others: what is there means
        nothing after a crash
    """

    def __init__(self, devices: Sequence[str], cut: Cut | None,
                 tell: Callable[..., None], brief: bool = False,
                 elsewhere: Sequence[str] = ()) -> None:
        self._devices = list(devices)
        self._elsewhere = tuple(elsewhere)
        self._brief = brief
        self._cut = cut
        self._tell = tell
        self._progress = threading.Condition()
        self._begun = [0] * len(devices)
        self._done = [0] * len(devices)
        #: How far the others were when a device waited for them in vain.
        self._in_vain: dict[int, dict[int, int]] = {}
        self._within = threading.local()

    def install(self) -> None:
        """Put this between the engine and the file system, for good."""
        for name in CHANGES:
            real = getattr(fsio, name)
            setattr(fsio, name, functools.partial(
                self._call, name, real, inspect.signature(real)))
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Tell of changes that do not come through fsio."""
        if getattr(self._within, 'step', False):
            return
        name = os.fsdecode(arguments[0]) if (
            arguments and isinstance(arguments[0], str | bytes)) else ''
        if self._elsewhere and _whole(name, event, arguments).startswith(
                self._elsewhere):
            return
        # Locks are empty files, and nothing is lost with them; by the name
        # of a directory, a file without one is made (O_TMPFILE).
        if event in _AUDITED or (
                event == 'open' and isinstance(arguments[2], int)
                and arguments[2] & os.O_CREAT
                and not _LOCK.fullmatch(name) and not os.path.isdir(name)):
            self._tell(bypassed=f'{event} {name}')

    def _call(self, name: str, real: Callable[..., Any],
              signature: inspect.Signature, *args: Any,
              **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        device, place = self._place(given)
        with self._progress:
            self._begun[device] += 1
            number = self._begun[device]
        cut = self._cut
        self._pace(device, number)
        here = cut is not None and (cut.device, cut.number) == (device,
                                                                number)
        moment = cut.moment if cut is not None and here else ''
        if here or not self._brief:
            self._tell(begun=[device, number, name, place])
        if moment == 'before':
            self._stop()
        self._within.step = True
        try:
            if moment == 'middle' and name == 'write_at':
                half = memoryview(given['data'])[:len(given['data']) // 2]
                real(given['fd'], half, given['offset'])
                self._stop()
            result = real(*args, **kwargs)
            if here or not self._brief:
                self._tell(ended=[device, number])
        finally:
            self._within.step = False
            if moment == 'after':
                self._stop()
            with self._progress:
                self._done[device] += 1
                self._progress.notify_all()
        return result

    def _pace(self, device: int, number: int) -> None:
        """Let the other devices go first, or the one of the cut."""
        cut = self._cut
        if cut is None:
            return
        with self._progress:
            if device != cut.device and cut.others == 'behind':
                self._wait(device, [cut.device],
                           lambda: self._done[cut.device] >= number)
            elif device == cut.device and cut.others == 'ahead':
                others = [index for index, begun in enumerate(self._begun)
                          if begun and index != device]
                self._wait(device, others, lambda: all(
                    self._done[index] >= number for index in others))
        if (device == cut.device) == (cut.others == 'ahead'):
            time.sleep(DELAY)

    def _wait(self, device: int, others: Sequence[int],
              reached: Callable[[], bool]) -> None:
        """Wait for steps of other devices, unless that was in vain just now.

        Those that did nothing meanwhile have nothing to do for the moment.
        """
        done = {index: self._done[index] for index in others}
        if done != self._in_vain.get(device) and not (
                self._progress.wait_for(reached, LIMIT)):
            self._in_vain[device] = done

    def _place(self, given: dict[str, Any]) -> tuple[int, str]:
        """Return on which device a call acts, and on what."""
        fd = next(given[name] for name in ('fd', 'dir_fd', 'target_fd')
                  if name in given)
        path = os.readlink(f'/proc/self/fd/{fd}')
        for index, device in enumerate(self._devices):
            if path == device or path.startswith(device + '/'):
                place = os.path.relpath(path, device)
                name = given.get('target', given.get('name'))
                return index, os.path.normpath(f'{place}/{name}'
                                               if name else place)
        raise AssertionError(f'{path} is on none of the devices')

    def _stop(self) -> None:
        assert self._cut is not None
        self._tell(stopped=True)
        if self._cut.freeze:
            os.killpg(0, signal.SIGSTOP)
        else:
            kill_group()


def _whole(name: str, event: str, arguments: tuple[Any, ...]) -> str:
    """Return the whole path of what is about to change.

    Two functions of Python have the directory's descriptor as their last
    argument.
    """
    if event == 'os.symlink':
        return os.fsdecode(arguments[1])
    if event in ('os.remove', 'os.rmdir') and arguments[-1] != -1:
        return os.path.join(os.readlink(f'/proc/self/fd/{arguments[-1]}'),
                            name)
    return name


@contextlib.contextmanager
def observed(observe: Callable[[str, dict[str, Any], Any], None],
             ) -> Any:
    """Tell of every change that this process makes, while it lasts.

    :param observe: called after each change with the name of the function,
        its arguments by name, and what it returned
    """
    real = {name: getattr(fsio, name) for name in CHANGES}

    def call(name: str, signature: inspect.Signature, *args: Any,
             **kwargs: Any) -> Any:
        result = real[name](*args, **kwargs)
        observe(name, dict(signature.bind(*args, **kwargs).arguments), result)
        return result

    try:
        for name, function in real.items():
            setattr(fsio, name, functools.partial(
                call, name, inspect.signature(function)))
        yield
    finally:
        for name, function in real.items():
            setattr(fsio, name, function)
