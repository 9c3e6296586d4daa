"""A rehearsal on one machine: "tox -e ota-demo".

Three releases are published; the first is installed, the second upgraded to
under load, and the third, which is slow, is rolled back by itself.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import signal
import sys
import tempfile
import time
from typing import Any, NoReturn

from tests.demo import screen as screen_module
from tests.functional import processes
from tests.ota import load
from tests.ota import releases
from tests.ota import results
from tests.ota import site as site_module

#: Makes each answer of the third release late once it takes requests of
#: users: the canary, which comes before, does not notice.
_SLOW = """

def factory(global_conf, _factory=factory, **local_conf):
    import os
    import time

    def wrap(app):
        inner = _factory(global_conf, **local_conf)(app)
        gate = os.path.join(os.environ['EASYSTACK_OTA_INSTANCE'], 'gate')

        def slow(environ, start_response):
            if os.path.exists(gate):
                time.sleep(0.4)
            return inner(environ, start_response)

        return slow

    return wrap
"""
FIRST, SECOND, THIRD = (
    releases.Content('2026.1.0', 1, releases.OLD_GLANCE),
    releases.Content('2026.2.0', 2, database=('expand', 'migrate')),
    releases.Content('2026.2.1', 3, plugin='1.0.1', identity=_SLOW))
#: What each of them is, for whoever watches.
WHAT = {
    FIRST: 'Glance 32', SECOND: 'Glance 33',
    THIRD: 'Glance 33, another plugin, 0.4 s too slow'}
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Failed(Exception):
    """The demonstration did not show what it should."""


class Story:
    """One run.

    :param root: a directory for everything, with a short path
    """

    def __init__(self, root: Path, screen: screen_module.Screen) -> None:
        self.root = root
        self.screen = screen
        self.site = site_module.Site(root)
        self._holder: processes.Process | None = None
        self._during: list[results.Window] = []

    def run(self) -> None:
        """Tell the story.

        :raises Failed: where it does not end well
        """
        self.publish()
        self.install()
        with site_module.Loading(self.site.port,
                                 self.root / 'answers') as loading:
            self.screen.step('Users come: lists, uploads, downloads, some of '
                             'them long')
            time.sleep(5)
            self.upgrade()
            self.break_third()
            self.roll_back()
        self.report(loading.answers())

    def publish(self) -> None:
        """Make the releases, and publish them."""
        self.screen.step('Three releases, signed by two of three people')
        workshop = releases.Workshop(self.root)
        with self.screen.waiting('Wheels of Glance, 35 MB the first time'):
            releases.wheels_of_others()
        with self.screen.waiting('Making keys and a repository'):
            publisher = releases.Publisher(self.root)
        for content, what in WHAT.items():
            with self.screen.waiting(f'Release {content.version}: {what}'):
                publisher.publish(workshop.archive(content))
        self.screen.fact('Repository', publisher.repository)
        with self.screen.waiting('A database, devices, and configuration'):
            self.site.prepare()
        self.site.configure(publisher, soak=20, watch_requests=30,
                            watch_slack=0.05)

    def install(self) -> None:
        """Have the first release serve."""
        self.screen.step('The first release is installed')
        self._holder = self.site.hold()
        self._holder.start()
        self._call('install', FIRST.version)
        self.screen.fact('API', self.site.glance.url)

    def upgrade(self) -> None:
        """Upgrade to the second release."""
        self.screen.step('The second is upgraded to, under load')
        found = self._call('upgrade', SECOND.version, '--soak', '5')
        self._expect(found, 'committed')

    def break_third(self) -> None:
        """Upgrade to a release that is not good."""
        self.screen.step('The third passes all checks, but is slow for users')
        found = self._call('upgrade', THIRD.version, accept=(1,))
        self._expect(found, 'rolled-back')
        self.screen.fact('Reason', found['reason'])

    def roll_back(self) -> None:
        """Go back to the first release, because somebody wants to."""
        self.screen.step('Somebody wants the first release back')
        self._expect(self._call('rollback'), 'committed')

    def _call(self, *words: str, accept: tuple[int, ...] = (0,),
              ) -> dict[str, Any]:
        """Call the updater as an operator does; return what it says."""
        self.screen.say(f'   # easystack-image-ota {" ".join(words)}', 'dim')
        begin = time.monotonic()
        with self.screen.waiting(words[0]):
            text = self.site.ota(*words, '-f', 'json', accept=accept)
        self._during.append(results.Window(begin, time.monotonic()))
        found: dict[str, Any] = json.loads(text)
        return found

    def _expect(self, found: dict[str, Any], outcome: str) -> None:
        self.screen.fact('Outcome', found['outcome'])
        if found['outcome'] != outcome:
            raise Failed(f'not what should be seen: {found}')

    def report(self, answers: list[load.Answer]) -> None:
        """Show what users saw."""
        self.screen.step('What users saw of it')
        found = results.outcomes(answers)
        for name, count in found.items():
            self.screen.fact(name, count)
        self.screen.fact('longest', f'{results.longest_gap(answers):.2f} s '
                                    'without an answer')
        endless = next(answer for answer in answers
                       if answer.kind == 'endless-put')
        self.screen.fact('upload', f'one went on for {endless.seconds:.0f} s '
                                   f'over all of it: {endless.outcome}')
        if any(found[bad] for bad in results.BAD):
            raise Failed(str([answer for answer in answers
                              if answer.outcome != 'ok'][:5]))

    def stop(self) -> None:
        """Stop what runs."""
        if self._holder:
            self._holder.stop()

    def log(self) -> str:
        """Return the ends of the logs."""
        return '\n'.join(f'{path.name}:\n{path.read_text()[-2000:]}' for path
                         in (*self.root.glob('*.log'),
                             *self.root.glob('run/logs/*.log')))


def _terminated(*args: object) -> NoReturn:
    raise SystemExit(143)


def main() -> int:
    """Run the demonstration and return the exit code."""
    argparse.ArgumentParser(prog='tox -e ota-demo --',
                            description=__doc__).parse_args()
    for number in _SIGNALS[1:]:
        signal.signal(number, _terminated)
    screen = screen_module.Screen()
    # Sockets need short paths.
    with tempfile.TemporaryDirectory(prefix='ota-') as directory:
        story = Story(Path(directory).resolve(), screen)
        begin = time.monotonic()
        try:
            story.run()
            screen.say('\nInstalled, upgraded, rolled back, and nobody '
                       f'noticed: all in {time.monotonic() - begin:.0f} s.',
                       'bold green')
        except (Failed, processes.ProcessFailed, TimeoutError) as exc:
            screen.say(f'\nThe demonstration failed: {exc}', 'bold red')
            screen.paste(f'\nThe ends of the logs:\n{story.log()}')
            return 1
        except KeyboardInterrupt:
            screen.say('\nInterrupted.')
            return 130
        finally:
            # Whoever is in a hurry presses Ctrl-C twice, and tox hurries too.
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            story.stop()
    return 0


if __name__ == '__main__':
    sys.exit(main())
