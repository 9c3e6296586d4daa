"""Two real nodes with one database and the same images, under load."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping
import contextlib
import json
from pathlib import Path
import shutil
import subprocess
import tempfile
import threading
import time
from typing import ClassVar

import requests
import testtools
from testtools import content as attachments

from easystack_image.ota.serving import layout
from tests.functional import client
from tests.functional import processes
from tests.ota import releases
from tests.ota import site as site_module

OLD, NEW = '1.0.0', '2.0.0'
PHASES = ('expand', 'migrate', 'contract')
#: Seconds that one upgrade may take, on a busy machine.
PATIENCE = 600.0
SIZE = 3_000_000


class Users(threading.Thread):
    """Somebody who looks at an image on a node, again and again.

    Each time by a connection of its own, as many users do.
    """

    def __init__(self, port: int, image_id: str) -> None:
        super().__init__(daemon=True)
        self._url = f'http://127.0.0.1:{port}/v2/images/{image_id}'
        self._over = threading.Event()
        self.answers: collections.Counter[tuple[int, str]] = (
            collections.Counter())
        self.failures: list[str] = []

    def run(self) -> None:
        """See the base class."""
        while not self._over.wait(0.2):
            try:
                answer = requests.get(self._url, timeout=60)
            except requests.RequestException as error:
                self.failures.append(repr(error))
                continue
            release = answer.headers.get(layout.RELEASE_HEADER, '')
            self.answers[answer.status_code, release] += 1

    def end(self) -> None:
        """Have it end."""
        self._over.set()
        self.join(PATIENCE)


class TestTwoNodes(testtools.TestCase):
    """The second node waits for the first, and contracts for both."""

    first: ClassVar[site_module.Site]
    second: ClassVar[site_module.Site]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        root = Path(tempfile.mkdtemp(prefix='ota-')).resolve()
        cls.addClassCleanup(shutil.rmtree, root, True)
        for name in ('a', 'b'):
            (root / name).mkdir()
        cls.first = site_module.Site(root / 'a')
        cls.second = site_module.Site(root / 'b', beside=cls.first)
        workshop, publisher = releases.Workshop(root), releases.Publisher(root)
        publisher.publish(*map(workshop.archive, (
            releases.Content(OLD, 1, releases.OLD_GLANCE),
            releases.Content(NEW, 2, database=PHASES))))
        nodes = [f'http://127.0.0.1:{site.port}'
                 for site in (cls.first, cls.second)]
        for site, url in zip((cls.first, cls.second), nodes, strict=True):
            site.prepare()
            site.configure(
                publisher, soak=1, processes=1, nodes=' '.join(nodes),
                node_url=url, node_timeout=PATIENCE,
                coordination_url=site.glance.connection.replace(
                    'mysql+pymysql://', 'mysql://'))
            holder = site.hold()
            cls.addClassCleanup(holder.stop)
            holder.start()
            processes.poll((site.run_directory / 'holder').exists,
                           'the holder')
            site.ota('install', OLD)

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.show_logs)

    def show_logs(self) -> None:
        for site in (self.first, self.second):
            for path in site.run_directory.glob('logs/*'):
                self.addDetail(
                    f'{site.root.name}-{path.name}', attachments.text_content(
                        path.read_text(errors='replace')[-4000:]))

    @contextlib.contextmanager
    def begin(self, site: site_module.Site, *words: str,
              ) -> Iterator[subprocess.Popen[str]]:
        """Have a node do something meanwhile."""
        child = subprocess.Popen(
            [processes.script('easystack-image-ota'), '--config-file',
             str(site.config_file), *words], env=processes.environment(),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)
        try:
            yield child
        finally:
            child.kill()
            _, said = child.communicate()
            self.addDetail(f'{site.root.name}-{words[0]}',
                           attachments.text_content(said))

    def reached(self, site: site_module.Site, step: str) -> bool:
        """Tell whether a node has begun a step of its upgrade."""
        upgrade = json.loads(site.ota(
            'status', '-f', 'json', accept=(0, 3)))['upgrade']
        return upgrade['target'] == NEW and any(
            each['step'] == step and each['event'] is not None
            for each in upgrade['steps'])

    def serves(self, site: site_module.Site, version: str) -> None:
        status = json.loads(site.ota('status', '-f', 'json'))
        self.assertEqual(version, status['current']['version'])
        self.assertEqual(version, self.says(site)[layout.RELEASE_HEADER])

    def says(self, site: site_module.Site) -> Mapping[str, str]:
        """Return what a node says of itself."""
        return requests.get(f'http://127.0.0.1:{site.port}/',
                            timeout=60).headers

    def test_one_after_the_other(self) -> None:
        """The first one's updater dies on the way; nobody notices."""
        one, two = (client.Images(f'http://127.0.0.1:{site.port}')
                    for site in (self.first, self.second))
        data = client.content(SIZE, seed=71)
        image_id = one.upload(data)
        users = [Users(site.port, image_id)
                 for site in (self.first, self.second)]
        for each in users:
            self.addCleanup(each.end)
            each.start()
        self.upgrade()
        # What is there, whoever wrote it, is read by both.
        self.assertEqual(data, two.get(image_id).content)
        self.assertEqual(data, one.get(two.upload(data)).content)
        for each in users:
            each.end()
            self.assertEqual([], each.failures)
            self.assertEqual({(200, OLD), (200, NEW)}, set(each.answers))
        for site in (self.first, self.second):
            refused = processes.run([
                processes.script('easystack-image-ota'), '--config-file',
                str(site.config_file), 'rollback'])
            self.assertNotEqual(0, refused.returncode)
            self.assertIn('contracted', refused.stderr)
            self.serves(site, NEW)

    def upgrade(self) -> None:
        """Upgrade both, the second one's updater being first."""
        with self.begin(self.second, 'upgrade', NEW) as second:
            processes.poll(lambda: self.reached(self.second, 'check'),
                           'the second node', PATIENCE, 1)
            with self.begin(self.first, 'upgrade', NEW, '--soak',
                            '600') as first:
                processes.poll(lambda: self.reached(self.first, 'soak'),
                               'the soak of the first node', PATIENCE, 1)
                first.kill()
                first.wait()
            # It may still go back: nobody follows it.
            time.sleep(3)
            self.assertIsNone(second.poll())
            self.assertFalse(self.reached(self.second, 'expand'))
            self.serves(self.second, OLD)
            self.first.ota('rollback')
            self.serves(self.first, OLD)
            self.first.ota('upgrade', NEW)
            self.assertEqual(0, second.wait(PATIENCE))
        self.serves(self.first, NEW)
        self.serves(self.second, NEW)
        self.assertEqual(
            [f'settled={NEW}; contracted=0', f'settled={NEW}; contracted=2'],
            [self.says(site)[layout.STANDING_HEADER]
             for site in (self.first, self.second)])
