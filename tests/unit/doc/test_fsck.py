"""What the documentation says of fsck."""

from __future__ import annotations

import re

import testtools

from easystack_image.blockstore.local import problems
from tests.unit.doc import guide


class KindTest(testtools.TestCase):

    def test_all_kinds(self) -> None:
        """Each kind of problem is told, and no other."""
        page = (guide.SOURCE / 'fsck.rst').read_text()
        section = re.search(r'\nKinds of problems\n=+\n(.*?)\n[^\n]+\n===',
                            page, re.DOTALL)
        assert section is not None
        told = set(re.findall('``([a-z-]+)``', section[1])) - {'tmp', 'fsck'}
        self.assertEqual({kind.label for kind in problems.Kind}, told)
