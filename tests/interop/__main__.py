"""Run the public suites against both servers; see ``--help``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
import contextlib
from pathlib import Path
import shutil
import signal
import sys
import tempfile
import time
from typing import NoReturn

from tests.deployment import deployment as deployment_module
from tests.functional import client
from tests.functional import file_server
from tests.functional import processes
from tests.functional import server
from tests.interop import report
from tests.interop import suite as suite_module
from tests.interop import verdict as verdict_module

#: The suites bring images in by ways and in formats that the content gate
#: refuses by default: here it lets in all that Glance does, and judges it.
_GATE: server.Options = {'easystack_content': {
    'import_tasks': 'inspect',
    'disk_formats': 'ami,ari,aki,vhd,vhdx,vmdk,raw,qcow2,vdi,iso,ploop',
    'container_formats': 'ami,ari,aki,bare,ovf,ova,docker,compressed'}}

#: Only administrators upload, and in the formats that the manual knows.
_POLICY = processes.ROOT / 'etc' / 'policy.d' / 'easystack-image-uploads.yaml'
_STRICT: server.Options = {'easystack_content': {'import_tasks': 'inspect'}}

#: A test that fails beside many others gets a second chance, if it is one of
#: a few.
_SECOND_CHANCES = 5


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='tox -e interop --',
        description="Run tempest's tests of images and those of "
                    'glance_tempest_plugin against Glance as it comes, and '
                    'against Glance with our pipeline and store. Fails if a '
                    'test that passes on the first does not on the second.')
    parser.add_argument('--regex', default=suite_module.TESTS,
                        help='the tests to run (default: %(default)s); no '
                             'matter then how few pass')
    parser.add_argument('--policy', action='store_true',
                        help='on ours, only administrators upload, and in '
                             'the formats of the manual: what fails then is '
                             'listed, and must be refused for one of both')
    parser.add_argument('--concurrency', type=int, default=2, metavar='N',
                        help='tests at a time, on each server (default: '
                             '%(default)s)')
    parser.add_argument('--output', type=Path, metavar='DIRECTORY',
                        help='an existing directory, to keep the logs in')
    return parser.parse_args()


def _serve_images(files: file_server.FileServer,
                  root: Path) -> Mapping[str, str]:
    """Offer an image of each format that the suites import, by URL."""
    disk = root / 'disk.qcow2'
    processes.check(['qemu-img', 'create', '-q', '-f', 'qcow2', str(disk),
                     '1M'])
    return {'raw': files.serve('/disk.img', client.content(1 << 20)),
            'qcow2': files.serve('/disk.qcow2', disk.read_bytes())}


def _folder(root: Path, name: str) -> Path:
    path = root / name
    path.mkdir()
    return path


def _deployments(root: Path, files: file_server.FileServer, strict: bool,
                 ) -> dict[str, deployment_module.Deployment]:
    """Return both, on one Keystone and one MariaDB, with two stores each."""
    filtering: server.Options = {'import_filtering_opts': {
        'allowed_hosts': '[127.0.0.1]', 'allowed_ports': f'[{files.port}]'}}
    plain, ours = _folder(root, report.BASE), _folder(root, report.OURS)
    found = {
        report.BASE: deployment_module.vanilla(
            plain, import_options=filtering, stores=[
                server.file_store(name, plain / name)
                for name in ('first', 'second')]),
        report.OURS: deployment_module.Deployment(
            ours, import_options=filtering,
            options=_STRICT if strict else _GATE, stores=[
                server.block_store(name, server.make_devices(
                    ours, prefix=name)) for name in ('first', 'second')])}
    if strict:
        shutil.copy(_POLICY, ours / 'policy.d')
    return found


@contextlib.contextmanager
def _running(deployments: Mapping[str, deployment_module.Deployment]
             ) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for deployment in deployments.values():
            stack.callback(deployment.stop)
            deployment.prepare()
            deployment.start()
        yield


def _run(suites: Mapping[str, suite_module.Suite], regex: str) -> None:
    """Run them side by side to their ends, and tell how far they are.

    :raises TimeoutError: if they do not come to an end
    """
    for suite in suites.values():
        suite.prepare()
        suite.start('--regex', regex)
    begin = told = time.monotonic()
    while any([suite.running for suite in suites.values()]):
        now = time.monotonic()
        if now - begin > suite_module.LIMIT:
            raise TimeoutError(
                f'the suites take more than {suite_module.LIMIT} s')
        if now - told > 30:
            told = now
            print(f'{now - begin:5.0f} s  ' + '  '.join(
                f'{name}: {suite.progress()} tests' for name, suite
                in suites.items()), flush=True)
        time.sleep(0.5)


def _judge(suites: Mapping[str, suite_module.Suite]
           ) -> verdict_module.Verdict:
    """Compare, when the few that failed on ours have been run once more."""
    outcomes = {name: suite.outcomes() for name, suite in suites.items()}
    verdict = verdict_module.Verdict(outcomes[report.BASE],
                                     outcomes[report.OURS])
    for name in (suspects := [*verdict.lost, *verdict.failed]):
        print(f'\n{name}\n{verdict.ours_of(name).why}', flush=True)
    if not 1 <= len(suspects) <= _SECOND_CHANCES:
        return verdict
    print('\nOnce more, one by one ...', flush=True)
    return verdict.after(suites[report.OURS].again(suspects))


def _compare(root: Path, arguments: argparse.Namespace) -> bool:
    """Do all of it, and return whether ours is as good as the other."""
    with file_server.FileServer() as files:
        deployments = _deployments(root, files, arguments.policy)
        images = _serve_images(files, root)
        print('Starting Keystone, MariaDB and two Glances ...', flush=True)
        suites = {name: suite_module.Suite(
            _folder(root, f'tempest-{name}'), deployment, images,
            arguments.concurrency) for name, deployment
            in deployments.items()}
        with _running(deployments), contextlib.ExitStack() as stack:
            for suite in suites.values():
                stack.callback(suite.stop)
            _run(suites, arguments.regex)
            seconds = {name: suite.seconds for name, suite in suites.items()}
            verdict = _judge(suites)
    whole = arguments.regex == suite_module.TESTS
    report.show(verdict, seconds, whole)
    if arguments.policy:
        refusals = verdict.refusals()
        report.show_refusals(refusals)
        return all(refusals.values()) and (verdict.ran_enough or not whole)
    return verdict.good and (verdict.ran_enough or not whole)


def _terminated(*args: object) -> NoReturn:
    raise SystemExit(143)


def main() -> int:
    """Run the comparison and return the exit code."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _terminated)
    with contextlib.ExitStack() as stack:
        root = arguments.output or Path(stack.enter_context(
            tempfile.TemporaryDirectory(prefix='interop-')))
        try:
            return 0 if _compare(root.absolute(), arguments) else 1
        except (processes.ProcessFailed, TimeoutError) as exc:
            print(exc, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130


if __name__ == '__main__':
    sys.exit(main())
