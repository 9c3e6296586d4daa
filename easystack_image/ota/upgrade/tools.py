"""What upgrades work with: the updater's directories, and who starts what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
import contextlib
import dataclasses
from pathlib import Path
import threading
import time
from typing import TypeVar

from easystack_image import exceptions
from easystack_image.ota import home as homes
from easystack_image.ota import settings as settings_module
from easystack_image.ota.journal import chain
from easystack_image.ota.journal import journal as journals
from easystack_image.ota.serving import command
from easystack_image.ota.serving import launcher as launchers
from easystack_image.ota.serving import systemd
from easystack_image.ota.slots import building
from easystack_image.ota.slots import slots as slots_module

#: Somebody wants the upgrade that is under way to be rolled back.
ASKED = 'rollback-asked'
#: Seconds between two looks, and for which another command may have the lock.
_PACE, _PATIENCE = 0.1, 60.0

_Result = TypeVar('_Result')


@dataclasses.dataclass(frozen=True)
class Tools:
    """See the module.

    :param settings: the configuration
    :param launcher: who starts instances
    :param say: tells the operator something
    :param heedful: whether to hear that somebody wants a rollback
    """

    settings: settings_module.Settings
    launcher: launchers.Launcher
    say: Callable[[str], None]
    heedful: bool = True

    @property
    def home(self) -> homes.Home:
        """The updater's directory."""
        return homes.Home(Path(self.settings.state_directory))

    @property
    def slots(self) -> slots_module.Slots:
        """The slots of this machine."""
        return slots(self.settings)

    @property
    def journal(self) -> journals.Journal:
        """The journal."""
        return journals.Journal(self.home)

    @property
    def asked(self) -> Path:
        """Exists while somebody wants a rollback."""
        return self.home.path / ASKED

    @property
    def upgrading(self) -> bool:
        """Whether a process is at an upgrade just now."""
        return self.home.in_use(chain.DIRECTORY)

    def pause(self, seconds: float) -> None:
        """Sleep, unless somebody wants a rollback.

        :raises RollbackAsked: if somebody does
        """
        end = time.monotonic() + seconds
        while True:
            if self.heedful and self.asked.exists():
                raise exceptions.RollbackAsked('a rollback was asked for')
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _PACE))

    def attentively(self, action: Callable[[], _Result]) -> _Result:
        """Do something that only asks others, who may not answer for long.

        It is left alone, in a thread, if somebody wants a rollback meanwhile.

        :raises RollbackAsked: if somebody does
        """
        # Nobody waits for its thread, as the program would for one of a pool.
        result: futures.Future[_Result] = futures.Future()
        threading.Thread(target=_fulfil, args=(result, action),
                         daemon=True).start()
        while not result.done():
            self.pause(0)
            futures.wait([result], _PACE)
        return result.result()

    def patiently(self, action: Callable[[], _Result]) -> _Result:
        """Do something for which another command may hold a lock just now.

        :raises AlreadyRunning: if it does not let go
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return action()
            except exceptions.AlreadyRunning:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PACE)

    @contextlib.contextmanager
    def writer(self) -> Iterator[journals.Writer]:
        """Have the journal; forget what was asked of an earlier upgrade.

        :raises AlreadyRunning: if another process upgrades
        """
        with self.journal.writer() as writer:
            self.asked.unlink(missing_ok=True)
            yield writer


def _fulfil(result: futures.Future[_Result],
            action: Callable[[], _Result]) -> None:
    try:
        result.set_result(action())
    except BaseException as error:  # Whoever waits for it gets it.
        result.set_exception(error)


def make(settings: settings_module.Settings,
         say: Callable[[str], None]) -> Tools:
    """Return what a configuration says."""
    return Tools(settings, _launcher(settings), say)


def slots(settings: settings_module.Settings) -> slots_module.Slots:
    """Return the slots that a configuration names."""
    return slots_module.Slots(
        Path(settings.slots_directory),
        building.Builder(settings.uv, settings.python))


def service(settings: settings_module.Settings) -> command.Service:
    """Return what the instances serve."""
    return command.Service(
        settings.application, settings.processes, settings.threads,
        Path(settings.uwsgi_file) if settings.uwsgi_file else None,
        # Where Glance looks for its files, under the names that it knows.
        {'OS_GLANCE_CONFIG_DIR': str(Path(settings.config_file).parent)})


def _launcher(settings: settings_module.Settings) -> launchers.Launcher:
    run = Path(settings.run_directory)
    if settings.launcher == 'systemd':
        return systemd.SystemdLauncher(run, service(settings))
    return launchers.HolderLauncher(run)
