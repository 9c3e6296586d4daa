"""Many upgrades and rollbacks by the updater's commands, under load."""

from __future__ import annotations

import json
import math
import time
from typing import Any

from tests.ota import results
from tests.ota import site as site_module

METHOD = 'easystack-image-ota'
#: Seconds to look at before each exchange, and from its begin.
BEFORE, DURING = 1.5, 1.5
#: Seconds before the end of the step in which the gate is opened.
_OPENING = 0.3


class Exchanges:
    """Has releases exchanged, as an operator does; a context manager.

    :param site: its updater knows where releases are published
    """

    def __init__(self, site: site_module.Site) -> None:
        self._site = site
        self._holder = site.hold()
        self.before: list[results.Window] = []
        #: From the begin of a command until the gate of a new one is opened.
        self.starting: list[results.Window] = []
        self.during: list[results.Window] = []
        #: Before and during warm rollbacks.
        self._back: list[tuple[results.Window, results.Window]] = []

    def __enter__(self) -> Exchanges:
        self._holder.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.stop()

    def install(self, version: str) -> None:
        """Have the first release serve."""
        self._site.ota('install', version)

    def upgrade_and_back(self, version: str) -> None:
        """Upgrade up to the soak, and roll back while that is warm."""
        self._upgrade(version, '--until', 'soak')
        begin = self._quiet()
        self._site.ota('rollback')
        self._exchanged(begin, self._step('rollback')['began'])
        self._back.append((self.before[-1], self.during[-1]))

    def upgrade(self, version: str) -> None:
        """Upgrade for good."""
        self._upgrade(version)

    def roll_back(self) -> None:
        """Go back to the release before, which has to be started."""
        begin = self._quiet()
        self._site.ota('rollback')
        self._handed_over(begin)

    def _upgrade(self, version: str, *options: str) -> None:
        begin = self._quiet()
        self._site.ota('upgrade', version, *options)
        self._handed_over(begin)

    def _quiet(self) -> float:
        """Let the load run for a while; return when that ended."""
        time.sleep(BEFORE)
        return time.monotonic()

    def _handed_over(self, begin: float) -> None:
        step = self._step('hand-over')
        opened = step['began'] + step['seconds'] - _OPENING
        self.starting.append(results.Window(begin, _monotonic(opened)))
        self._exchanged(begin, opened)

    def _exchanged(self, begin: float, at: float) -> None:
        """Remember when; that is over now.

        :param begin: of the command, in seconds of the monotonic clock
        :param at: when requests went to another, in seconds since 1970
        """
        opened = _monotonic(at)
        self.before.append(results.Window(begin - BEFORE, begin))
        self.during.append(results.Window(opened, opened + DURING))

    def _step(self, name: str) -> dict[str, Any]:
        # Until that has been: this command is no part of an exchange.
        time.sleep(DURING)
        # One that was told to stop before the soak wants attention.
        status = json.loads(self._site.ota('status', '-f', 'json',
                                           accept=(0, 3)))
        found: dict[str, Any] = next(
            each for each in status['upgrade']['steps']
            if each['step'] == name)
        return found

    def run(self, loading: site_module.Loading) -> results.Run:
        """Return what was measured; the load must have ended."""
        answers = loading.answers()
        return results.Run(
            METHOD, len(self.during), answers, self.before, self.during,
            [results.switched(answers, before, during,
                              self._next_command(during))
             for before, during in self._back],
            self.starting)

    def _next_command(self, during: results.Window) -> float:
        """Return when the command after an exchange began, or infinity."""
        return min((each.end for each in self.before
                    if each.end > during.begin), default=math.inf)


def _monotonic(moment: float) -> float:
    """Return what the monotonic clock said, from seconds since 1970."""
    return moment - time.time() + time.monotonic()
