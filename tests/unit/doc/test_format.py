"""What the documentation shows of the formats on disk is read by the code."""

from __future__ import annotations

import hashlib
import json
import math
import re
import textwrap

import testtools

from easystack_image.blockstore.local import attempts
from easystack_image.blockstore.local import claims
from easystack_image.blockstore.local import device
from easystack_image.blockstore.local import members
from easystack_image.blockstore.local import placement
from easystack_image.blockstore.local import status
from tests.unit.doc import guide

PAGE = (guide.SOURCE / 'local-engine.rst').read_text()


def example(name: str) -> bytes:
    """Return the example of a file."""
    match = re.search(rf'^\.\. code-block:: json\n   :name: {name}\n\n'
                      r'((?:   .*\n)+)', PAGE, re.MULTILINE)
    if match is None:
        raise LookupError(name)
    return textwrap.dedent(match[1]).encode()


class ExampleTest(testtools.TestCase):

    def check_fields(self, name: str) -> None:
        """See each field explained, in the section of its file."""
        section = PAGE.partition(f'\n{name}\n---')[2].partition('\n---')[0]
        for field in json.loads(example(name)):
            self.assertIn(f'``{field}``', section)

    def test_identity(self) -> None:
        identity = device.Identity.unpack(example(device.IDENTITY))
        self.assertEqual(example(device.IDENTITY), identity.pack())
        self.check_fields(device.IDENTITY)

    def test_members(self) -> None:
        memory = members.read_back(example(members.MEMBERS))
        self.assertEqual(example(members.MEMBERS),
                         members.write_down(memory))
        identity = device.Identity.unpack(example(device.IDENTITY))
        self.assertEqual(identity,
                         memory.members[identity.device_id].identity)

    def test_status(self) -> None:
        shown = status.unpack(example(status.STATUS))
        self.assertEqual(1200, shown.images)
        self.check_fields(status.STATUS)

    def test_claims(self) -> None:
        shown = claims.unpack(example(claims.CLAIMS))
        self.assertEqual(example(claims.CLAIMS), claims.pack(shown))
        self.check_fields(claims.CLAIMS)
        self.assertIn(f'for {claims.LIFE / 86400:g} days', PAGE)

    def test_attempt(self) -> None:
        name = 'ID.GENERATION.tried'
        self.assertEqual(example(name), attempts.Attempt.unpack(
            example(name)).pack())
        section = PAGE.partition(f'\nrepair/{name}\n---')[2].partition(
            '\n===')[0]
        for field in json.loads(example(name)):
            self.assertIn(f'``{field}``', section)
        self.assertIn(f'{attempts.LONGEST} characters', section)

    def test_tree(self) -> None:
        """What is prepared is told, and nothing else."""
        tree = PAGE.partition('::\n\n')[2].partition('\n\n')[0]
        told = {line.split()[0].split('/')[0] for line in tree.splitlines()}
        self.assertEqual(
            {*device.DIRECTORIES, device.IDENTITY, members.MEMBERS,
             status.STATUS, claims.CLAIMS, 'scrub.json'}, told)

    def test_draw(self) -> None:
        image_id = re.search('For the image ``(.*)``', PAGE)[1]
        rows = re.findall(
            r'\* - ``(\S{36})``\n +- ``(\w+)``\n +- (\S+)\n +- (\S+)', PAGE)
        self.assertEqual(2, len(rows))
        for key, digest, number, draw in rows:
            self.assertEqual(digest, hashlib.blake2b(
                f'{image_id}/{key}'.encode(), digest_size=8).hexdigest())
            self.assertEqual(float(number), placement.uniform(image_id, key))
            self.assertAlmostEqual(float(draw), -math.log(float(number)) / 4)
        first = placement.rank(image_id, [
            placement.Candidate(key, 'zone', 4.0) for key, *_ in rows], 1)[0]
        self.assertEqual(rows[0][0], first.key)
