"""Running ``easystack-image-manage``."""

from __future__ import annotations

from collections.abc import Iterable
import csv
import dataclasses
import io
import json
import os
from pathlib import Path
import subprocess
import sysconfig

import fixtures
import testtools

from easystack_image.blockstore.local import engine
from easystack_image.blockstore.local import settings
from tests.unit import forked
from tests.unit.store import base as store_base

COMMAND = Path(sysconfig.get_path('scripts')) / 'easystack-image-manage'
REPOSITORY = Path(__file__).parents[3]
#: What would change what the command finds, or how it prints.
_SETTINGS = ('OS_', 'CLIFF_', 'XDG_', 'COLUMNS', 'LC_', 'LANG')


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run of the command printed, and its exit code."""

    code: int
    output: str
    errors: str

    @property
    def rows(self) -> list[dict[str, str]]:
        """The rows that were printed with ``-f json``."""
        rows: list[dict[str, str]] = json.loads(self.output)
        return rows

    @property
    def records(self) -> list[dict[str, str]]:
        """The rows that were printed with ``-f csv``."""
        return list(csv.DictReader(io.StringIO(self.output)))


class CommandCase(testtools.TestCase):
    """A test of the command, with a configuration file of its own."""

    def setUp(self) -> None:
        super().setUp()
        timeout = int(os.environ.get('OS_TEST_TIMEOUT', 0))
        if timeout:
            self.useFixture(fixtures.Timeout(timeout, gentle=True))
        self.root = Path(self.useFixture(fixtures.TempDir()).path)
        #: Not where the command would look for one by itself.
        self.config = self.root / 'etc-glance-api.conf'

    def write_config(self, **stores: dict[str, object]) -> Path:
        """Write a configuration with stores, by their names."""
        groups = {name: store_base.block_options(**options)
                  for name, options in stores.items()}
        return store_base.write_config(self.config, {
            'DEFAULT': {'enabled_backends': ','.join(
                f'{name}:easystack_block' for name in stores)}, **groups})

    def run_command(self, *arguments: object,
                    command: tuple[object, ...] = (COMMAND,),
                    debug: bool = False, **environment: str) -> Result:
        """Run the command as it is; never see a traceback.

        :param command: a call of another program than the command's script;
            the script needs no Python of its own to start
        :param debug: whether to see one
        :param environment: has the script start by itself
        """
        words = [*map(str, command), *map(str, arguments)]
        if command == (COMMAND,) and not environment:
            result = forked.server().run(
                words, self.root, self.environment(), timeout=60)
        else:
            result = subprocess.run(
                words, text=True, stdin=subprocess.DEVNULL,
                capture_output=True, cwd=self.root, timeout=60,
                env=self.environment(**environment))
        answer = Result(result.returncode, result.stdout, result.stderr)
        self.addDetail('-'.join(map(str, arguments)).replace('/', '.'),
                       testtools.content.text_content(repr(answer)))
        self.assertEqual(debug,
                         'Traceback' in answer.output + answer.errors)
        return answer

    def environment(self, **more: str) -> dict[str, str]:
        """Return an environment in which the command depends on nothing."""
        return {name: value for name, value in os.environ.items()
                if not name.startswith(_SETTINGS)} | {
                    'HOME': str(self.root)} | more

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start the command with our configuration file; do not wait."""
        process = subprocess.Popen(
            [COMMAND, '--config-file', self.config, *map(str, arguments)],
            text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, cwd=self.root, env=self.environment())
        self.addCleanup(_end, process)
        return process

    def stop(self, process: subprocess.Popen[str], number: int) -> Result:
        """Send a signal to a command that was started; return its end."""
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
        result = Result(process.returncode, output, errors)
        self.addDetail('stopped', testtools.content.text_content(
            repr(result)))
        self.assertNotIn('Traceback', errors)
        return result

    def manage(self, *arguments: object) -> Result:
        """Run the command with our configuration file."""
        return self.run_command('--config-file', self.config, *arguments)

    def check_error(self, result: Result, *words: object,
                    code: int = 1) -> None:
        """See a command fail with one line that has ``words``."""
        self.assertEqual(code, result.code)
        self.assertEqual('', result.output)
        self.assertEqual(1, len(result.errors.splitlines()), result.errors)
        for word in words:
            self.assertIn(str(word), result.errors)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def local_engine(paths: Iterable[Path]) -> engine.LocalEngine:
    """Return an engine on devices, for what the command does not do."""
    made = engine.LocalEngine(settings.Settings(
        [str(path) for path in paths], allow_shared_disk=True,
        self_repair=False))
    made.start()
    return made
