"""Glance as it comes, for tests that show what it does by itself."""

from __future__ import annotations

from pathlib import Path
import sys

from tests.functional import server


class VanillaGlance(server.Glance):
    """A Glance with its own pipelines, but for Keystone."""

    def prepare(self) -> None:
        """See the base class."""
        super().prepare()
        theirs = Path(sys.prefix, 'etc', 'glance', 'glance-api-paste.ini')
        (self.root / 'etc' / 'paste.ini').write_text(server.without_keystone(
            theirs.read_text()))
