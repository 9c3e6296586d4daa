"""The examples of the documentation of hooks, as they stand there."""

from __future__ import annotations

import configparser
import re
import textwrap

from easystack_image import exceptions
from easystack_image.ota.hooks import base as hooks_base
from easystack_image.ota.hooks import executables
from easystack_image.ota.hooks import registry
from easystack_image.ota.hooks import testing
from tests.unit.ota import base as ota_base
from tests.unit.ota.hooks import base

PAGE = ota_base.ROOT / 'doc' / 'source' / 'ota' / 'hooks.rst'


def example(name: str) -> str:
    """Return a block of code of the page."""
    block = re.search(rf'   :name: {name}\n\n((?:   .*\n|\n)+)',
                      PAGE.read_text())
    assert block
    return textwrap.dedent(block[1]).strip() + '\n'


class ExamplesTest(base.HookCase):

    def test_executable(self) -> None:
        path = self.executable('', '10-maintenance', 'before-hand-over')
        path.write_text(example('executable'))
        state = self.root / 'state'
        self.run_hooks('before-hand-over')
        (state / 'maintenance').write_text('noon\n')
        later = self.assertRaises(exceptions.RetryLater, self.run_hooks,
                                  'before-hand-over')
        self.assertIn('maintenance until noon', str(later))

    def test_class(self) -> None:
        found: dict[str, type[hooks_base.Hook]] = {}
        exec(example('class'), found)  # noqa: S102  # it is the example
        kind = found['Quiet']
        registry.in_order([registry.Found('quiet', kind)])
        self.assertEqual('no imports', kind().run(
            self.context('before-hand-over')))
        kind.imports = lambda self: 3  # type: ignore[attr-defined]
        self.assertRaises(exceptions.RetryLater, kind().run,
                          self.context('before-hand-over'))
        parser = configparser.ConfigParser()
        parser.read_string(example('entry-point'))
        self.assertIn(f'{kind.name} = ', parser['entry_points'][
            registry.NAMESPACE])

    def test_nothing_is_left_out(self) -> None:
        text = PAGE.read_text()
        for found in registry.load():
            self.assertIn(found.name if not found.name.startswith(
                'database-') else '-' + found.name.partition('-')[2], text)
        for name in executables.environment(testing.context('at-check')):
            self.assertIn(f'``{name.removeprefix("EASYSTACK_OTA_")}``', text)
