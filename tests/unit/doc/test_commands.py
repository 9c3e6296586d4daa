"""The manual pages tell what the commands take."""

from __future__ import annotations

import importlib.util
from pathlib import Path
import re
import subprocess
import sys
from types import ModuleType

import testtools

from easystack_image.cmd import base
from easystack_image.cmd.ota import main

DOC = Path(__file__).parents[3] / 'doc'
PAGES = DOC / 'source' / 'man'


def load() -> ModuleType:
    """Return what makes the text of the pages."""
    spec = importlib.util.spec_from_file_location(
        'command_text', DOC / 'ext' / 'command_text.py')
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exit_codes(page: str) -> set[int]:
    """Return the exit codes that a page tells."""
    text = (PAGES / f'{page}.rst').read_text()
    part = text.partition('\nExit codes\n==========\n')[2]
    return {int(code) for code in re.findall(
        r'^(\d+)$', part.partition('\n===')[0], re.MULTILINE)}


class PagesTest(testtools.TestCase):

    def test_commands(self) -> None:
        """All commands and options are there: taken from the parsers."""
        maker = load()
        for program, some in (
                ('easystack-image-manage', ('device init', 'heal', 'fsck')),
                ('easystack-image-ota', ('check', 'slots build', 'upgrade',
                                         'release sign', 'config diff'))):
            self.assertIn(f'.. command-line:: {program}\n',
                          (PAGES / f'{program}.rst').read_text())
            lines = maker.text(program)
            found = dict(maker.commands(program))
            self.assertEqual(set(), set(some) - set(found))
            for name, parser in found.items():
                title = lines.index(name)
                self.assertEqual('-' * len(name), lines[title + 1])
                end = next((place for place in range(title + 3, len(lines))
                            if lines[place] in found), len(lines))
                told = '\n'.join(lines[title:end])
                for action in maker.actions(parser):
                    for option in action.option_strings:
                        self.assertRegex(told, f'``{option}[ `]')
                self.assertNotIn('%(', told)

    def test_exit_codes(self) -> None:
        self.assertEqual(set(base.EXIT_CODES),
                         exit_codes('easystack-image-manage'))
        self.assertEqual(set(main.EXIT_CODES),
                         exit_codes('easystack-image-ota'))
        self.assertEqual({0, 1, 2, 255}, exit_codes('easystack-image-status'))

    def test_status(self) -> None:
        """Its parser is oslo.upgradecheck's, which adds to oslo.config's."""
        text = (PAGES / 'easystack-image-status.rst').read_text()
        for words, names in ((('--help',), ('config-file', 'config-dir')),
                             (('upgrade', 'check', '--help'), ('json',))):
            done = subprocess.run(
                [sys.executable, '-m', 'easystack_image.cmd.status', *words],
                capture_output=True, text=True, timeout=300,
                cwd=DOC.parent)
            told = set(re.findall(r'--([a-z-]+)', done.stdout)) - {'help'}
            self.assertEqual(set(names), told & {
                'config-file', 'config-dir', 'json'}, done.stdout)
            for name in names:
                self.assertIn(f'\n``--{name}', text)

    def test_systemd_finds_them(self) -> None:
        for unit in (DOC.parent / 'etc' / 'systemd').iterdir():
            for name in re.findall(r'man:(easystack[a-z-]+)\(1\)',
                                   unit.read_text()):
                self.assertTrue((PAGES / f'{name}.rst').exists(), name)
