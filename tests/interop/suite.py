"""Tempest against one deployment, and what became of each test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import io
from pathlib import Path
import re
import subprocess
import time
from typing import Any

import subunit
import testtools

from tests.deployment import accounts
from tests.deployment import deployment as deployment_module
from tests.functional import configuration
from tests.functional import processes
from tests.interop import outcome

#: Tempest's own tests of images, and those that Glance's developers keep.
TESTS = r'^(tempest\.api\.image|glance_tempest_plugin)\.'
#: Seconds after which a run is given up.
LIMIT = 2400

#: As subunit has them; whatever else it says is a failure.
_OUTCOMES = {'success': outcome.PASSED, 'xfail': outcome.PASSED,
             'skip': outcome.SKIPPED}


class Suite:
    """Tempest, set up for one deployment.

    :param root: an existing directory
    :param images: URLs of a ``raw`` and of a ``qcow2`` image to import
    """

    def __init__(self, root: Path, deployment: deployment_module.Deployment,
                 images: Mapping[str, str], concurrency: int = 2) -> None:
        self.root = root
        self._deployment = deployment
        self._images = images
        self._concurrency = concurrency
        self._config = root / 'tempest.conf'
        self._process: processes.Process | None = None
        self._begin = self._end = 0.0

    def prepare(self) -> None:
        """Write tempest's configuration."""
        (self.root / 'lock').mkdir()
        configuration.write(self._config, configuration.merge(
            self._identity(), self._services(), {
                'DEFAULT': {'log_file': self.root / 'tempest.log'},
                'oslo_concurrency': {'lock_path': self.root / 'lock'}}))

    def _identity(self) -> dict[str, Mapping[str, object]]:
        keystone = self._deployment.keystone
        return {
            'auth': {
                'use_dynamic_credentials': True,
                # Without tempest_roles: what stands there is given to readers
                # too, and a member among them is no reader any more.
                'admin_username': keystone.admin.user,
                'admin_password': keystone.admin.password,
                'admin_project_name': keystone.admin.project,
                'admin_domain_name': accounts.DOMAIN,
                'create_isolated_networks': False},
            'identity': {'uri_v3': f'{keystone.url}/v3',
                         'region': self._deployment.region,
                         'auth_version': 'v3'},
            # Or all tests of who may do what are skipped.
            'enforce_scope': {'glance': True}}

    def _services(self) -> dict[str, Mapping[str, object]]:
        return {
            'service_available': {'glance': True, 'nova': False,
                                  'cinder': False, 'neutron': False,
                                  'swift': False, 'horizon': False},
            'image': {'region': self._deployment.region,
                      'http_image': self._images['raw'],
                      'http_qcow2_image': self._images['qcow2']},
            'validation': {'run_validation': False}}

    def start(self, *selection: str) -> None:
        """Begin to run the tests.

        :param selection: of tempest's command; by default all tests that are
            about images
        """
        command = [processes.script('tempest'), 'run', '--config-file',
                   str(self._config), '--concurrency', str(self._concurrency),
                   *(selection or ('--regex', TESTS))]
        self._process = processes.Process(
            command, self.root / 'run.log',
            # Tempest keeps track of its runs there.
            processes.environment(HOME=str(self.root)), cwd=self.root)
        self._begin = time.monotonic()
        self._process.start()

    @property
    def running(self) -> bool:
        """Whether tests are still run."""
        running = self._process is not None and self._process.running
        if not running and self._end < self._begin:
            self._end = time.monotonic()
        return running

    @property
    def seconds(self) -> float:
        """How long the last run took."""
        return self._end - self._begin

    def stop(self) -> None:
        """Give up."""
        if self._process is not None:
            self._process.kill()

    def progress(self) -> int:
        """Return how many tests have ended so far."""
        log = self.root / 'run.log'
        return 0 if not log.exists() else len(re.findall(
            r'\.\.\. (?:ok|FAILED|SKIPPED)', log.read_text(errors='replace')))

    def outcomes(self) -> outcome.Outcomes:
        """Return what became of the tests of the last run.

        :raises ProcessFailed: if there was none, with the end of the log
        """
        answer = subprocess.run(
            [processes.script('stestr'), 'last', '--subunit'], cwd=self.root,
            env=processes.environment(HOME=str(self.root)),
            capture_output=True, timeout=120, check=False)
        found = read(answer.stdout)
        if not found:
            assert self._process is not None
            raise processes.ProcessFailed(
                f'tempest ran no test:\n{self._process.tail()}\n'
                f'{answer.stderr.decode(errors="replace")}')
        return found

    def again(self, names: Sequence[str]) -> outcome.Outcomes:
        """Run a few tests once more, one by one, and tell what became."""
        listed = self.root / 'again'
        listed.write_text(''.join(f'^{re.escape(name)}\n' for name in names))
        self._concurrency = 1
        self.start('--include-list', str(listed))
        processes.poll(lambda: not self.running, 'tempest', LIMIT, 1)
        return self.outcomes()


def read(stream: bytes) -> outcome.Outcomes:
    """Return what became of the tests in a stream of subunit (version 2)."""
    found: dict[str, outcome.Outcome] = {}

    def add(test: dict[str, Any]) -> None:
        what = _OUTCOMES.get(test['status'], outcome.FAILED)
        details = test['details']
        text = ''.join(details[name].as_text() for name in
                       ('reason', 'traceback') if name in details)
        found[test['id'].partition('[')[0]] = outcome.Outcome(
            what, text.strip())

    result = testtools.StreamToDict(add)
    result.startTestRun()
    subunit.ByteStreamToStreamResult(io.BytesIO(stream)).run(result)
    result.stopTestRun()
    return found
