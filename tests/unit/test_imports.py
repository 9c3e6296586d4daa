"""The rooms of the package, and which of them may know of which.

``cmd``, ``middleware`` and ``store`` are on the top floor; ``api``, ``ota``,
``properties``, ``policies``, ``content`` and ``blockstore`` below; ``conf``,
``exceptions`` and ``fsio`` on the ground.  No import runs up, none from room
to room on one floor, none in a circle.  ``api``, ``blockstore`` and
``properties`` are usable without Glance.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
import os
import pathlib
import subprocess
import sys

import fixtures
import testtools

import easystack_image

PACKAGE = 'easystack_image'
FLOORS = {'cmd': 2, 'middleware': 2, 'store': 2, 'image_import': 2,
          'api': 1, 'ota': 1, 'properties': 1, 'policies': 1, 'content': 1,
          'blockstore': 1,
          'conf': 0, 'exceptions': 0, 'fsio': 0}
#: What a room must do without, besides what the floors say.
FORBIDDEN = {
    'api': {'glance', 'glance_store', 'oslo_config', 'webob'},
    'blockstore': {'glance', 'glance_store', 'oslo_config', 'webob'},
    'properties': {'glance', 'glance_store'},
}


def modules(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return the modules of the package that lies in ``root``, by name."""
    found = {}
    for path in sorted((root / PACKAGE).rglob('*.py')):
        parts = path.relative_to(root).with_suffix('').parts
        if parts[-1] == '__init__':
            parts = parts[:-1]
        found['.'.join(parts)] = path
    return found


def imports(module: str, path: pathlib.Path,
            known: dict[str, pathlib.Path]) -> Iterator[str]:
    """Yield the names that a module imports, wherever in it it does."""
    package = module if path.name == '__init__.py' else (
        module.rpartition('.')[0])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ''
            if node.level:
                above = package.split('.')
                above = above[:len(above) - node.level + 1]
                origin = '.'.join([*above, *filter(None, [origin])])
            for alias in node.names:
                name = f'{origin}.{alias.name}'
                yield name if name in known else origin
        elif isinstance(node, ast.Call):
            yield from _dynamic(node)


def _dynamic(call: ast.Call) -> Iterator[str]:
    """Yield what ``import_module('name')`` and its like import."""
    function = call.func
    name = (function.attr if isinstance(function, ast.Attribute) else
            function.id if isinstance(function, ast.Name) else '')
    if name in ('import_module', '__import__') and call.args:
        argument = call.args[0]
        # What is worked out only when it runs is the room's own business.
        if isinstance(argument, ast.Constant):
            yield str(argument.value)


def room(module: str) -> str:
    """Return the room that a module of the package is in, '' for none."""
    return (module.split('.') + [''])[1]


def violations(root: pathlib.Path) -> list[str]:
    """Return everything that breaks the rule in the package in ``root``."""
    known = modules(root)
    found = [f'{module} is in no room' for module in known
             if room(module) and room(module) not in FLOORS]
    graph: dict[str, set[str]] = {}
    for module, path in known.items():
        targets = set(imports(module, path, known))
        graph[module] = {target for target in targets
                         if target in known and target != module}
        for target in sorted(targets):
            reason = _judge(module, target)
            if reason:
                found.append(f'{module} imports {target}: {reason}')
    return found + _circles(graph)


def _judge(module: str, target: str) -> str:
    """Return why a module must not import something, or ''."""
    here = room(module)
    top = target.split('.')[0]
    if top != PACKAGE:
        return 'not in this room' if top in FORBIDDEN.get(here, ()) else ''
    there = room(target)
    if there == here or not here or not there:
        # The package itself holds nothing but its name.
        return 'it runs up' if there and not here else ''
    if there not in FLOORS or here not in FLOORS:
        return 'there is no such room' if here in FLOORS else ''
    if FLOORS[there] > FLOORS[here]:
        return 'it runs up'
    return 'it runs sideways' if FLOORS[there] == FLOORS[here] else ''


def _circles(graph: dict[str, set[str]]) -> list[str]:
    """Return the circles in a graph of imports, each once."""
    found = []
    done: set[str] = set()

    def walk(module: str, trail: list[str]) -> None:
        if module in trail:
            circle = trail[trail.index(module):]
            found.append('circle: ' + ' -> '.join([*circle, module]))
        elif module not in done:
            for target in sorted(graph[module]):
                walk(target, [*trail, module])
            done.add(module)

    for module in sorted(graph):
        walk(module, [])
    return found


class RuleTest(testtools.TestCase):

    def test_the_package_keeps_it(self) -> None:
        root = pathlib.Path(easystack_image.__file__).parents[1]
        self.assertIn('easystack_image.blockstore.local.engine',
                      modules(root))
        self.assertEqual([], violations(root))

    def test_rooms_work_without_glance(self) -> None:
        # For real: every module of them, where nothing else can be imported.
        root = pathlib.Path(easystack_image.__file__).parents[1]
        for place, least in (('blockstore', 20), ('properties', 4)):
            names = [module for module in modules(root)
                     if room(module) in (place, 'exceptions', 'fsio')]
            self.assertGreater(len(names), least)
            done = subprocess.run(
                [sys.executable, '-c', _WITHOUT,
                 ','.join(sorted(FORBIDDEN[place])), *names],
                capture_output=True, text=True, env={
                    **os.environ, 'PYTHONPATH': str(root)})
            self.assertEqual(('imported all\n', ''),
                             (done.stdout, done.stderr))


#: Imports modules while others cannot be had.
_WITHOUT = """\
import importlib
import sys
for name in sys.argv[1].split(','):
    sys.modules[name] = None
for name in sys.argv[2:]:
    importlib.import_module(name)
print('imported all')
"""


class PlantedTest(testtools.TestCase):
    """The rule can be broken: each way of doing so is found."""

    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        for module in ('__init__', 'exceptions', 'conf/__init__',
                       'conf/store', 'blockstore/__init__',
                       'blockstore/engine', 'blockstore/local/__init__',
                       'blockstore/local/engine', 'content/__init__',
                       'content/formats', 'store/__init__', 'store/driver',
                       'cmd/__init__', 'cmd/manage'):
            self.write(module, '')

    def write(self, module: str, text: str) -> None:
        """Write a module."""
        path = self.root / PACKAGE / f'{module}.py'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def assertFound(self, module: str, text: str, *words: str) -> None:
        self.write(module, text)
        found = violations(self.root)
        self.assertEqual(1, len(found), f'{text!r}: {found}')
        for word in words:
            self.assertIn(word, found[0])
        self.write(module, '')

    def test_what_is_allowed(self) -> None:
        self.write('cmd/manage', 'import os\n'
                   'import glance_store\n'
                   'from easystack_image import exceptions\n'
                   'from easystack_image.blockstore import engine\n'
                   'from easystack_image.content.formats import Format\n'
                   'from easystack_image.conf import store\n'
                   'import easystack_image.blockstore.local.engine\n')
        self.write('blockstore/local/engine',
                   'from easystack_image import exceptions\n'
                   'from easystack_image.blockstore import engine\n'
                   'from .. import engine\n')
        self.write('conf/store', 'from oslo_config import cfg\n')
        self.assertEqual([], violations(self.root))

    def test_up(self) -> None:
        for module, text in (
                ('blockstore/engine', 'from easystack_image.store import '
                                      'driver'),
                ('blockstore/engine', 'import easystack_image.store.driver'),
                ('blockstore/engine', 'import easystack_image.store.driver '
                                      'as other'),
                ('blockstore/engine', 'from easystack_image import store'),
                ('blockstore/engine', 'from easystack_image.store.driver '
                                      'import Store'),
                ('blockstore/engine', 'from ..store import driver'),
                ('blockstore/local/engine', 'from ...store import driver'),
                ('blockstore/local/__init__', 'from ...store import driver'),
                ('blockstore/engine', 'def f():\n'
                                      '    from easystack_image import cmd'),
                ('blockstore/engine', 'if False:\n'
                                      '    import easystack_image.cmd'),
                ('blockstore/engine', 'import importlib\n'
                                      'importlib.import_module('
                                      '"easystack_image.cmd.manage")'),
                ('blockstore/engine', '__import__("easystack_image.cmd")'),
                ('exceptions', 'from easystack_image import blockstore'),
                ('conf/store', 'from easystack_image import content'),
                ('__init__', 'from easystack_image import cmd')):
            self.assertFound(module, text, 'runs up')

    def test_sideways(self) -> None:
        for module, text in (
                ('blockstore/engine', 'from easystack_image.content import '
                                      'formats'),
                ('content/formats', 'from easystack_image import '
                                    'blockstore'),
                ('store/driver', 'from easystack_image.cmd import manage'),
                ('cmd/manage', 'from easystack_image.store import driver'),
                ('conf/store', 'from easystack_image import exceptions'),
                ('exceptions', 'from easystack_image.conf import store')):
            self.assertFound(module, text, 'runs sideways')

    def test_what_blockstore_does_without(self) -> None:
        for name in ('glance', 'glance_store', 'oslo_config', 'webob'):
            for text in (f'import {name}', f'import {name}.driver',
                         f'from {name} import driver',
                         f'def f():\n    import {name}'):
                self.assertFound('blockstore/local/engine', text, name,
                                 'not in this room')
        # A name that begins alike is another one.
        self.write('blockstore/engine', 'import glancesync')
        self.assertEqual([], violations(self.root))

    def test_circles(self) -> None:
        self.write('blockstore/engine',
                   'from easystack_image.blockstore.local import engine')
        self.assertFound(
            'blockstore/local/engine',
            'def f():\n    from easystack_image.blockstore import engine',
            'circle: easystack_image.blockstore.engine -> '
            'easystack_image.blockstore.local.engine -> '
            'easystack_image.blockstore.engine')

    def test_new_rooms(self) -> None:
        self.write('attic/__init__', '')
        self.assertEqual(['easystack_image.attic is in no room'],
                         violations(self.root))
        self.write('attic/__init__', 'from easystack_image import store')
        self.assertEqual(['easystack_image.attic is in no room'],
                         violations(self.root))
        self.write('cmd/manage', 'from easystack_image import attic')
        self.assertEqual(2, len(violations(self.root)))
