"""The examples of the operator's guide are true."""

from __future__ import annotations

from pathlib import Path

import fixtures
import testscenarios
import testtools

from easystack_image.cmd import app as app_module
from tests.unit.doc import guide

PAGES = ('installing', 'devices', 'failures', 'upkeep', 'checking',
         'commands')


class PageTest(testscenarios.WithScenarios, testtools.TestCase):
    """Each page, from top to bottom."""

    scenarios = [(page, {'page': page}) for page in PAGES]
    page: str

    def test_examples(self) -> None:
        root = Path(self.useFixture(fixtures.TempDir()).path).resolve()
        machine = guide.Machine(root)
        self.addCleanup(machine.close)
        text = (guide.SOURCE / 'operating' / f'{self.page}.rst').read_text()
        ran = 0
        for step in guide.steps(text):
            where = f'{self.page}.rst:{step.line}: {step.text}'
            if step.kind == 'ini':
                machine.configure(step.text)
            elif step.kind == 'root':
                self.assertIn(step.text.split()[0], guide.ROOTS, where)
            else:
                output = machine.run(step.text)
                if step.kind == 'run':
                    ran += 1
                    self.assertEqual(guide.plain(step.output),
                                     guide.plain(output), where)
                else:
                    code = machine.run('echo $?').strip()
                    self.assertEqual('0', code, f'{where}\n{output}')
        self.assertGreater(ran, 2)


class CompleteTest(testtools.TestCase):

    def test_every_command_has_an_example(self) -> None:
        """In the reference, under a heading of its own."""
        text = (guide.SOURCE / 'operating' / 'commands.rst').read_text()
        examples = [step.text for step in guide.steps(text)
                    if step.kind == 'run']
        for name in app_module.COMMANDS:
            self.assertIn(f'\n{name}\n{"-" * len(name)}\n', text)
            self.assertTrue(
                any(each.startswith(f'easystack-image-manage {name}')
                    for each in examples), name)


    def test_every_option_is_told(self) -> None:
        """Besides those that cliff gives to all."""
        text = (guide.SOURCE / 'operating' / 'commands.rst').read_text()
        app = app_module.ManageApp()
        for name, factory in app_module.COMMANDS.items():
            section = text.partition(
                f'\n{name}\n{"-" * len(name)}\n')[2].partition('\n----')[0]
            for action in factory(app, None, name).get_parser(name)._actions:
                told = [each for each in action.option_strings
                        if action.container.title == 'options'
                        and each not in ('-h', '--help', '--long')]
                for option in told:
                    self.assertIn(option, section, name)


class CompareTest(testtools.TestCase):
    """The comparison leaves out what varies, and nothing else."""

    def test_same(self) -> None:
        self.assertEqual(
            guide.plain('+----+---+\n| b | 1.2G |\n| a |   75K |\n'),
            guide.plain('+--+----+\n| a | 3M |\n|  b   | 999B |\n\n'))

    def test_different(self) -> None:
        for one, other in (('| a | 3 |', '| a | 4 |'),
                           ('| a | good |', '| a | bad |'),
                           ('done', ''), ('1 of 3', '2 of 3'),
                           ('/srv/images/disk1', '/srv/images/disk2')):
            self.assertNotEqual(guide.plain(one), guide.plain(other))

    def test_steps(self) -> None:
        text = ('Text::\n\n   $ not run\n\n.. test: hidden\n\n'
                '#. Item\n\n   .. code-block:: console\n\n'
                '      $ one \\\n        two\n      out\n\n      put\n'
                '      $ three\n      # mount /dev\n\nText\n'
                '.. code-block:: ini\n\n   [a]\n   b = c\n')
        self.assertEqual(
            [('hidden', 'hidden', ''), ('run', 'one two', 'out\n\nput\n'),
             ('run', 'three', ''), ('root', 'mount /dev', ''),
             ('ini', '\n[a]\nb = c', '')],
            [(step.kind, step.text, step.output)
             for step in guide.steps(text)])
