"""From openstackclient to Nova's scheduler, in each documented spelling."""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any
import uuid

from tests.functional import base
from tests.functional import processes
from tests.functional import server
from tests.nova import scheduler
from tests.unit.properties import words


class NovaCase(base.SharedGlanceCase):
    """A Glance with all filters, the ordinary client, and Nova."""

    @classmethod
    def make_glance(cls) -> server.Glance:
        return server.Glance(
            cls.root, [server.file_store('plain', cls.root / 'plain')],
            database=server.SQLite(cls.root / 'glance.sqlite'))

    def client(self, *commands: list[str]) -> list[tuple[int, str]]:
        """Give commands to openstackclient.

        :returns: the exit code and the output of each
        """
        path = self.temporary_directory() / 'commands.json'
        path.write_text(json.dumps(commands))
        results = json.loads(processes.check(
            [sys.executable, '-W', 'ignore', '-m', 'tests.nova.commands',
             self.glance.url, str(path)], timeout=570))
        return [(code, said) for code, said in results]

    def create(self, *properties: dict[str, str]) -> list[dict[str, Any]]:
        """Create an image with each set of properties, and return them."""
        mark = uuid.uuid4().hex[:8]
        for code, said in self.client(*(
                ['image', 'create', f'{mark}-{number:03}'] + [
                    word for name, value in each.items()
                    for word in ('--property', f'{name}={value}')]
                for number, each in enumerate(properties))):
            self.assertEqual(0, code, said)
        images = self.images.request(
            'GET', '/images?limit=1000&sort=name:asc').json()['images']
        made = [image for image in images if image['name'].startswith(mark)]
        self.assertEqual(len(properties), len(made))
        return made


class TestWords(NovaCase):

    def test_each_spelling(self) -> None:
        spellings = sorted({
            (name, spelling, value)
            for name, word, value in words.documented()
            for spelling in (word, word.swapcase())})
        for name, choices in words.MANUAL.items():
            for word, value in choices.items():
                self.assertIn((name, word, value), spellings)
        made = self.create(*({name: spelling}
                             for name, spelling, _ in spellings))
        nova = scheduler.Scheduler(self.glance.url)
        compared = {'architecture': 'hw_architecture',
                    'hypervisor_type': 'img_hv_type'}
        for (name, spelling, value), image in zip(spellings, made,
                                                  strict=True):
            self.assertEqual(value, image[name], spelling)
            seen = nova.image(image['id']).properties
            self.assertEqual(value, seen.get(compared.get(name, name)),
                             spelling)

    def test_lists_and_changes(self) -> None:
        image, = self.create({'os_distro': 'Oracle Linux',
                              'architecture': 'Arm'})
        # The client compares once more what it gets, by the letter.
        listed, = self.client([
            'image', 'list', '-f', 'value', '-c', 'ID', '--property',
            'os_distro=oraclelinux', '--property', 'architecture=aarch64'])
        self.assertEqual((0, f'{image["id"]}\n'), listed)
        changed, refused, shown = self.client(
            ['image', 'set', image['id'], '--property', 'os_distro=SUSE'],
            ['image', 'set', image['id'], '--property', 'os_distro=BeOS'],
            ['image', 'show', image['id'], '-f', 'value', '-c', 'properties'])
        self.assertEqual((0, ''), changed)
        self.assertNotEqual(0, refused[0])
        # What is allowed reaches whoever typed it.
        self.assertIn('CentOS (centos)', refused[1])
        self.assertIn("'os_distro': 'sles'", shown[1])


class TestScheduling(NovaCase):

    def test_hosts(self) -> None:
        """Each combination of the manual's starts where it belongs."""
        combinations = list(itertools.product(
            words.MANUAL['os_distro'], words.MANUAL['architecture'],
            words.MANUAL['hypervisor_type']))
        combinations = [each for each in combinations
                        if each[:2] != ('Windows', 'Arm')]
        made = self.create(*(
            dict(zip(words.MANUAL, each, strict=True))
            for each in combinations))
        nova = scheduler.Scheduler(self.glance.url)
        for (distro, architecture, kind), image in zip(combinations, made,
                                                       strict=True):
            host = ('metal-' if kind == 'Baremetal' else '') + (
                architecture.lower())
            meta = nova.image(image['id'])
            self.assertEqual({host}, nova.hosts(meta), (
                distro, architecture, kind))
            self.assertEqual(
                {'Windows': 'windows', 'FreeBSD': None,
                 'others': None}.get(distro, 'linux'),
                meta.properties.get('os_type'), distro)

    def test_why_words_are_translated(self) -> None:
        """Nova cannot read images in the manual's words."""
        nova = scheduler.Scheduler(self.glance.url)
        for name, word in (('architecture', 'Arm'), ('architecture', 'x86'),
                           ('os_type', 'Ubuntu')):
            image = nova.image(self.images.create())
            self.assertRaises(ValueError, image.properties.from_dict,
                              {name: word})
