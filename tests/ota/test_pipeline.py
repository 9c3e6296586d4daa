"""A real Glance in an instance: what it counts, names and tells; canaries."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
import contextlib
import functools
import http.client
import http.server
import importlib.metadata
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

import requests

from easystack_image import exceptions
from easystack_image.ota.serving import aside
from easystack_image.ota.serving import command
from easystack_image.ota.serving import counts
from easystack_image.ota.serving import holder as holder_module
from easystack_image.ota.serving import instance as instance_module
from easystack_image.ota.serving import launcher as launcher_module
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import warmth
from easystack_image.ota.upgrade import canary
from easystack_image.ota.upgrade import peers
from tests.functional import base
from tests.functional import client
from tests.functional import processes
from tests.functional import server

SLOT = Path(sys.prefix).resolve()
VERSION = importlib.metadata.version('easystack-image')
PROCESSES = 2
MIB = 1 << 20
Kind = counts.Kind


class OtherNode(http.server.BaseHTTPRequestHandler):
    """The health check of a node that does as it is told."""

    code = 200

    def do_GET(self) -> None:
        self.send_response(type(self).code)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Site:
    """A holder with an instance of Glance.

    :param stack: closes everything
    """

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.root = Path(stack.enter_context(
            tempfile.TemporaryDirectory(prefix='ota-')))
        self.fault = self.root / 'fault'
        node = http.server.ThreadingHTTPServer(('127.0.0.1', 0), OtherNode)
        stack.callback(node.server_close)
        threading.Thread(target=node.serve_forever, daemon=True).start()
        stack.callback(node.shutdown)
        port = processes.free_port()
        self.url = f'http://127.0.0.1:{port}'
        glance = server.Glance(
            self.root, [server.file_store('plain', self.root / 'plain')],
            port=port, options={'easystack_ota': {
                'state_directory': self.root / 'state', 'other_nodes':
                    f'http://127.0.0.1:{node.server_address[1]}/'}})
        glance.prepare()
        self._hold(stack, port, glance.config_file.parent)
        self.instance = self.start('first')
        self.instance.serve(60)

    def _hold(self, stack: contextlib.ExitStack, port: int,
              configuration: Path) -> None:
        run = self.root / 'run'
        holder = holder_module.Holder(run, '127.0.0.1', port, command.Service(
            'tests.ota.faulty_app:application', PROCESSES, 4, environment={
                'PYTHONPATH': str(processes.ROOT),
                'EASYSTACK_TEST_FAULT': str(self.fault),
                'OS_GLANCE_CONFIG_DIR': str(configuration)}))
        stack.callback(holder.close)
        thread = threading.Thread(target=holder.run, daemon=True)
        thread.start()
        stack.callback(thread.join)
        for _ in range(2):
            stack.callback(holder.end)
        self.launcher: launcher_module.Launcher = (
            launcher_module.HolderLauncher(run))

    def start(self, name: str) -> instance_module.Instance:
        """Start an instance, and wait until it has loaded."""
        instance = self.launcher.start(name, SLOT)
        processes.poll(lambda: instance.loaded, name, timeout=180)
        return instance


@functools.cache
def shared() -> Site:
    """Return the site of this process, made when first asked for."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return Site(stack)


class GlanceCase(base.TestCase):
    """Tests that share one site, because they leave it as it was."""

    def setUp(self) -> None:
        super().setUp()
        site = shared()
        self.url, self.fault = site.url, site.fault
        self.launcher, self.instance = site.launcher, site.instance
        self.start = site.start
        self.images = client.Images(self.url)
        self.addCleanup(self.fault.unlink, missing_ok=True)

    def counts(self) -> counts.Counts:
        return counts.read(self.instance.place)

    def in_flight(self) -> dict[Kind, int]:
        return {kind: number for kind, number
                in self.counts().in_flight.items() if number}

    def settled(self) -> counts.Counts:
        """Return the counts once all is over: a client knows that earlier."""
        self.await_in_flight({})
        return self.counts()

    def await_in_flight(self, expected: dict[Kind, int]) -> None:
        processes.poll(lambda: self.in_flight() == expected,
                       f'{expected}, and not {self.in_flight()}')

    def upload(self, size: int) -> str:
        image_id = self.images.upload(client.content(size))
        self.addCleanup(self.images.delete, image_id)
        return image_id


class TestCounts(GlanceCase):

    def test_named(self) -> None:
        for path in ('/', '/v2/images', '/v2/images/none', '/nowhere'):
            answer = requests.get(self.url + path, timeout=60)
            self.assertEqual(VERSION, answer.headers[layout.RELEASE_HEADER])
        # As the nodes see each other.
        self.assertEqual(VERSION, peers.ask(self.url).release)

    def test_upload(self) -> None:
        image_id = self.images.create()
        self.addCleanup(self.images.delete, image_id)
        before = self.settled()
        with contextlib.closing(self.images.begin_put(
                image_id, bytes(MIB), MIB // 2)) as connection:
            self.await_in_flight({Kind.UPLOAD: 1})
            connection.send(bytes(MIB // 2))
            self.assertEqual(204, connection.getresponse().status)
        since = self.settled().since(before)
        self.assertEqual((1, 1, 0), (since.begun[Kind.UPLOAD], since.of(
            counts.Result.SUCCESS), since.timed(Kind.UPLOAD)))

    def test_download(self) -> None:
        """As long as the client takes, and no longer than it stays."""
        image_id = self.upload(64 * MIB)
        for read_all in (True, False):
            with requests.get(f'{self.url}/v2/images/{image_id}/file',
                              stream=True, timeout=60) as answer:
                answer.raw.read(1000)
                time.sleep(0.5)
                self.await_in_flight({Kind.DOWNLOAD: 1})
                if read_all:
                    rest = sum(map(len, answer.iter_content(MIB)))
                    self.assertEqual(64 * MIB - 1000, rest)
            self.await_in_flight({})

    def test_latency(self) -> None:
        before = self.settled()
        for _ in range(3):
            self.images.request('GET', '/images')
            self.images.request('GET', '/images/none')
        since = self.settled().since(before)
        self.assertEqual((3, 3), (since.timed(Kind.LIST),
                                  since.timed(Kind.GET)))
        self.assertGreater(since.quantile(Kind.LIST, 0.5), 0.0005)
        self.assertLess(since.quantile(Kind.LIST, 0.99), 30)

    def test_a_worker_dies(self) -> None:
        """What it was at is over; what it did before counts on."""
        image_id = self.images.create()
        self.addCleanup(self.images.delete, image_id)
        before = self.settled()
        with contextlib.closing(self.images.begin_put(
                image_id, bytes(MIB), 1000)) as connection:
            self.await_in_flight({Kind.UPLOAD: 1})
            for worker in self.instance.workers():
                os.kill(worker.pid, signal.SIGKILL)
            self.assertRaises((OSError, http.client.HTTPException),
                              connection.getresponse)
        processes.poll(lambda: self.counts().workers == PROCESSES,
                       'new workers')
        # Until the kernel has cleared away who was killed.
        processes.poll(lambda: not self.in_flight(), 'the end of the upload')
        self.images.request('GET', '/images')
        since = self.settled().since(before)
        self.assertEqual((1, 1), (since.begun[Kind.UPLOAD],
                                  since.begun[Kind.LIST]))
        processes.poll(lambda: self.counts().answered > before.answered,
                       'the end of the list')

    def test_what_is_no_traffic(self) -> None:
        """The updater's own requests, and warming up."""
        instance = self.start('second')
        self.addCleanup(self.launcher.stop, 'second')
        warmth.ask(instance.place, [warmth.Request('/v2/images')])
        processes.poll(lambda: len(warmth.results(
            instance.place)) == PROCESSES, 'warmth')
        self.assertEqual({'200 OK'}, {
            line for each in warmth.results(instance.place).values()
            for line in each.statuses})
        canary.run(instance, canary.CanarySettings(), MIB)
        self.assertEqual((PROCESSES, 0), (
            counts.read(instance.place).workers,
            counts.read(instance.place).answered))


class TestOverview(GlanceCase):

    def ask(self, **headers: str) -> requests.Response:
        return requests.get(f'{self.url}/easystack/ota', headers=headers,
                            timeout=60)

    def test_administrators(self) -> None:
        self.start('standby')
        self.addCleanup(self.launcher.stop, 'standby')
        image_id = self.upload(64 * MIB)
        with requests.get(f'{self.url}/v2/images/{image_id}/file',
                          stream=True, timeout=60) as download:
            download.raw.read(1000)
            answer = self.ask()
        self.assertEqual(200, answer.status_code, answer.text)
        shown = answer.json()
        self.assertEqual((VERSION, 'first', None, None), (
            shown['release'], shown['instance'], shown['upgrade'],
            shown['upgrade_unreadable']))
        self.assertEqual(importlib.metadata.version('glance'),
                         shown['versions']['glance'])
        self.assertEqual(
            [('first', 'serving', 2), ('standby', 'waiting', 2)],
            [(each['name'], each['state'], each['workers'])
             for each in shown['instances']])
        self.assertEqual({'download': 1, 'other': 1}, {
            kind: number for kind, number
            in shown['instances'][0]['in_flight'].items() if number})

    def test_others(self) -> None:
        answer = self.ask(**{'X-Roles': 'member,reader'})
        self.assertEqual(403, answer.status_code)
        self.assertIn('easystack_image:get_ota',
                      answer.json()['error']['message'])
        self.assertEqual(405, requests.delete(
            f'{self.url}/easystack/ota', timeout=60).status_code)


class TestHealthcheck(GlanceCase):

    def code(self) -> int:
        return requests.get(f'{self.url}/healthcheck',
                            timeout=60).status_code

    def await_code(self, code: int) -> None:
        """Each worker looks by itself, every five seconds."""
        processes.poll(lambda: {self.code() for _ in range(8)} == {code},
                       f'{code}')

    def test_aside(self) -> None:
        instances = self.instance.place.path.parent
        self.addCleanup(setattr, OtherNode, 'code', 200)
        self.addCleanup(aside.step_back, instances)
        self.await_code(200)
        aside.step_aside(instances, 300)
        self.await_code(503)
        # The last one stays, whatever it was told.
        OtherNode.code = 503
        self.await_code(200)
        OtherNode.code = 200
        self.await_code(503)
        # All the while, whoever comes is served.
        self.assertEqual(200, self.images.request(
            'GET', '/images').status_code)
        aside.step_back(instances)
        self.await_code(200)


#: A canary that does not end.
_ENDLESS = """\
import pathlib, sys
from easystack_image.ota.serving import instance, layout
from easystack_image.ota.upgrade import canary
canary.run(instance.Instance(layout.Place(pathlib.Path(sys.argv[1]))),
           canary.CanarySettings(), 1 << 40)
"""


class TestCanary(GlanceCase):

    def run_canary(self, size: int = 3 * MIB + 1,
                   **settings: Any) -> canary.Report:
        return canary.run(self.instance,
                          canary.CanarySettings(**settings), size)

    def listed(self) -> list[dict[str, Any]]:
        """Return all images, hidden ones as well."""
        found: list[dict[str, Any]] = [
            image for hidden in ('true', 'false')
            for image in self.images.request(
                'GET', f'/images?os_hidden={hidden}').json()['images']]
        return found

    def assertFails(self, *words: str, **settings: Any) -> None:
        error = self.assertRaises(exceptions.CanaryFailed, self.run_canary,
                                  **settings)
        for word in words:
            self.assertIn(word, str(error))

    def test_good(self) -> None:
        report = self.run_canary(release=VERSION)
        self.assertEqual((VERSION, 3 * MIB + 1, 0), (
            report.release, report.size, report.swept))
        self.assertEqual(
            ['versions', 'create', 'sweep', 'upload', 'show', 'list',
             'download', 'delete'], list(report.seconds))
        self.assertEqual([], self.listed())

    def test_another_release(self) -> None:
        self.assertFails('"versions"', '9.9.9', VERSION, release='9.9.9')

    def test_faults(self) -> None:
        for fault, words in (
                # Who refuses at once resets the connection, and his words
                # may be lost.
                ('upload', ('"upload"',)),
                ('corrupt', ('"download"', 'other bytes')),
                ('short', ('"download"',))):
            self.fault.write_text(fault)
            self.assertFails('instance first', *words)
            self.assertEqual([], self.listed(), fault)

    def test_time(self) -> None:
        self.assertFails('too long', size=1 << 40, timeout=2)
        self.assertEqual([], self.listed())

    def test_what_cannot_be_deleted(self) -> None:
        """It is said, and the next one does it."""
        self.fault.write_text('delete')
        self.assertFails('"delete"', '403', 'is left')
        self.assertEqual(1, len(self.listed()))
        self.fault.unlink()
        self.assertEqual(1, self.run_canary().swept)
        self.assertEqual([], self.listed())

    def test_killed(self) -> None:
        process = subprocess.Popen([sys.executable, '-c', _ENDLESS,
                                    str(self.instance.place.path)])
        try:
            processes.poll(lambda: [
                image for image in self.listed()
                if image['status'] == 'saving'], 'an upload')
        finally:
            process.kill()
            process.wait()
        left, = self.listed()
        self.assertEqual(('private', True, [canary.TAG]), (
            left['visibility'], left['os_hidden'], left['tags']))
        self.assertEqual(1, self.run_canary().swept)
        self.assertEqual([], self.listed())

    def others(self) -> Iterator[str]:
        """Yield images of others that look like a canary's."""
        name = canary.record()['name']
        yield self.images.create(name=name, tags=[canary.TAG],
                                 visibility='public', os_hidden=True)
        yield self.images.create(name=name, tags=[canary.TAG],
                                 owner='a' * 32, os_hidden=True)
        yield self.images.create(name='mine', tags=[canary.TAG],
                                 os_hidden=True)

    def test_images_of_others_stay(self) -> None:
        others = list(self.others())
        for image_id in others:
            self.addCleanup(self.images.delete, image_id)
        self.assertEqual(0, self.run_canary().swept)
        self.assertEqual(set(others), {
            image['id'] for image in self.listed()})

    def test_nobody_there(self) -> None:
        self.assertRaises(
            exceptions.CanaryFailed, canary.run,
            self.launcher.instance('nobody'), canary.CanarySettings(), MIB)
