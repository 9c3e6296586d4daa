"""Requirements that are met, and that are not."""

from __future__ import annotations

from pathlib import Path
import sys

import fixtures
import testtools

from easystack_image.ota.checks import requirements


class RequirementsTest(testtools.TestCase):

    def requiring(self, *lines: str) -> list[str]:
        """Return what is said of a distribution with requirements."""
        root = Path(self.useFixture(fixtures.TempDir()).path)
        info = root / 'thing-1.0.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(
            'Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n'
            + ''.join(f'Requires-Dist: {line}\n' for line in lines))
        self.useFixture(fixtures.MonkeyPatch('sys.path',
                                             [str(root), *sys.path]))
        found = requirements.findings('thing')
        self.assertTrue(all(each.serious for each in found))
        return [each.text for each in found]

    def test_ours(self) -> None:
        self.assertEqual([], requirements.findings())

    def test_not_met(self) -> None:
        self.assertEqual([], self.requiring())
        old, missing = self.requiring(
            'stevedore>=5000', 'nowhere-to-be-found', 'stevedore>=1',
            'nothing; extra == "more"', 'nothing; python_version < "3"')
        self.assertIn('stevedore is ', old)
        self.assertIn('must be >=5000', old)
        self.assertEqual('nowhere-to-be-found is missing', missing)
