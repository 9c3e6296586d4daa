"""``heal``: the service that keeps all images whole."""

from __future__ import annotations

import argparse
import logging
import threading
from typing import Protocol, TextIO

from easystack_image.blockstore.ceph import engine as ceph_engine
from easystack_image.blockstore.local import status as status_module
from easystack_image.cmd import base
from easystack_image.cmd import progress

#: Seconds that the healer gets to end what it is at. Everything that it does
#: survives being cut off.
PATIENCE = 10.0
#: As oslo.log has it by default: what reads Glance's log reads this one, too.
LINES = ('%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s [-] '
         '%(message)s')
TIMES = '%Y-%m-%d %H:%M:%S'


class _Status(Protocol):
    @property
    def whole(self) -> bool:
        """Whether nothing is left to do."""


class _Healer(Protocol):
    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set."""

    def once(self, stop: threading.Event) -> _Status:
        """Do what is due now."""


class Heal(base.StoreCommand):
    """Keep all images whole, as a service.

    Makes up for missing copies, applies missed deletions, repairs what users
    and scrubs find, scrubs everything within easystack_block_scrub_period,
    and removes what was kept long enough. With the engine "ceph", which makes
    up for missing copies itself, it does the rest. One healer works at a time
    on a set of devices, or a pool; others wait. SIGTERM and SIGINT end it,
    with exit code 0.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the arguments."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--once', action='store_true',
            help='Do what is due now, and end: with 0 if all images have all '
                 'their copies, else with 3.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Heal."""
        if not parsed_args.once:
            _tell_times(self.store_app.stderr)
        engine = self.keeper()
        healer: _Healer = (
            engine.healer() if isinstance(engine, ceph_engine.CephEngine)
            else engine.healer(self.report))
        with progress.until_signal() as stop:
            if not parsed_args.once:
                _serve(healer, stop)
                self.say('The healer ends.')
                return
            if not healer.once(stop).whole:
                self.exit_code = base.NOT_GOOD

    def report(self, status: status_module.Status) -> None:
        """Hear how the store is after each round."""


def _tell_times(stream: TextIO) -> None:
    """Have what is logged to a stream say when it was, and how bad.

    A service is read later, and perhaps by a program; not so the commands.
    """
    for handler in logging.getLogger().handlers:
        if (isinstance(handler, logging.StreamHandler)
                and handler.stream is stream):
            handler.setFormatter(logging.Formatter(LINES, TIMES))


def _serve(healer: _Healer, stop: threading.Event) -> None:
    """Have the healer work until the signal; then wait for a while only."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            healer.run(stop)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, name='heal', daemon=True)
    thread.start()
    while thread.is_alive() and not stop.wait(1.0):
        pass
    thread.join(PATIENCE)
    for failure in failures:
        raise failure


COMMANDS = {'heal': Heal}
