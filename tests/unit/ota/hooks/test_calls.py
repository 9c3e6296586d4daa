"""Classes in a slot, called from outside."""

from __future__ import annotations

from collections.abc import Callable
import json
import os
from pathlib import Path
import signal
import sys
import tempfile

from easystack_image import exceptions
from easystack_image.ota.hooks import base as hooks_base
from easystack_image.ota.hooks import calls
from easystack_image.ota.hooks import leashed
from easystack_image.ota.journal import records
from tests.functional import processes
from tests.unit.ota.hooks import base

CLASSES = """
import os, sys, time

class Good(base.Hook):
    \"\"\"Do something good.\"\"\"

    name = 'good'
    points = ('before-soak', 'after-soak', 'before-rollback')
    timeout = 60

    def run(self, context):
        print('to stdout')
        os.write(1, b'and from below')
        return f'{context.target} {context.slot == sys.prefix}'

class Changing(base.Hook):
    name = 'changing'
    points = ('before-soak', 'after-commit')
    after = ('good',)
    overridable = True
    timeout = 60

    def run(self, context):
        what = context.reason
        if what == 'no':
            raise exceptions.HookFailed('password=abc is wrong')
        if what == 'later':
            raise exceptions.RetryLater('soon', 5)
        if what == 'fault':
            {}['x']
        if what == 'exit':
            sys.exit(3)
        if what == 'die':
            os._exit(4)
        if what == 'kill':
            os.kill(os.getpid(), 9)

class Fixed(Changing):
    name = 'fixed'
    points = ('before-drain',)
    after = ()
    overridable = False

class Forward(Fixed):
    name = 'forward'
    kinds = base.FORWARD

class Slow(base.Hook):
    name = 'slow'
    points = ('after-drain',)
    timeout = 0.5

    def run(self, context):
        time.sleep(100)

class Lasting(Slow):
    name = 'lasting'
    points = ('at-start',)
    timeout = 60
    finishes = True

    def run(self, context):
        with open(context.reason, 'a') as file:
            file.write('begun ')
            file.flush()
            time.sleep(2)
            file.write('done ')

class Telling(Slow):
    name = 'telling'
    points = ('after-canary',)
    required = False
"""
POINTS = {'good': 'Good', 'changing': 'Changing', 'slow': 'Slow',
          'telling': 'Telling', 'fixed': 'Fixed', 'lasting': 'Lasting',
          'forward': 'Forward'}


class ClassesTest(base.HookCase):

    path: str

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        directory = Path(cls.enterClassContext(
            tempfile.TemporaryDirectory())).resolve()
        cls.path = base.make_slot(directory / 'slot', CLASSES, POINTS)

    def seal(self, text: str) -> None:
        path = Path(self.path) / 'seal.json'
        path.write_text(text)
        self.addCleanup(path.unlink, missing_ok=True)

    def run_one(self, reason: str = '', point: str = base.POINT,
                forced: tuple[str, ...] = ()) -> list[hooks_base.Outcome]:
        self.outcomes.clear()
        return self.run_hooks(point, slot=self.path, reason=reason,
                              forced=forced)

    def test_order_and_messages(self) -> None:
        self.executable('echo last >&2')
        good, changing, executable = self.run_one()
        self.assertEqual(
            ('good', '2.0.0 True', hooks_base.State.DONE),
            (good.hook, good.message, good.state))
        self.assertIn('to stdout', good.output)
        self.assertIn('and from below', good.output)
        self.assertEqual('changing', changing.hook)
        self.assertEqual('before-soak/10-mine', executable.hook)
        self.assertEqual([good, changing, executable], self.outcomes)

    def test_failures(self) -> None:
        for reason, *words in (
                ('no', 'changing at before-soak: password=*** is wrong'),
                ('fault', 'it has a fault', 'KeyError'),
                ('exit', 'it has a fault', 'SystemExit(3)'),
                ('die', 'ended with 4'), ('kill', 'ended with -9')):
            error = self.assertRaises(exceptions.HookFailed, self.run_one,
                                      reason)
            for word in words:
                self.assertIn(word, str(error))
            self.assertEqual(['done', 'failed'],
                             [each.state for each in self.outcomes])
        self.assertRaises(exceptions.HookFailed, self.run_one, 'fault')
        self.assertIn('Traceback', self.outcomes[-1].output)

    def test_retry(self) -> None:
        later = self.assertRaises(exceptions.RetryLater, self.run_one,
                                  'later')
        self.assertEqual((5.0, 'changing at before-soak: soon'),
                         (later.seconds, str(later)))

    def test_timeout(self) -> None:
        error = self.assertRaises(exceptions.HookFailed, self.run_one, '',
                                  'after-drain')
        self.assertIn('more than 0.5 s', str(error))

    def test_forced(self) -> None:
        _, outcome = self.run_one('no', forced=('changing',))
        self.assertIs(hooks_base.State.IGNORED, outcome.state)
        error = self.assertRaises(
            exceptions.HookFailed, self.run_one, 'no', 'before-drain',
            ('fixed',))
        self.assertIn('cannot be forced', str(error))

    def test_kinds(self) -> None:
        for kind, expected in (('upgrade', ['fixed', 'forward']),
                               ('rollback', ['fixed'])):
            self.assertEqual(expected, [each.hook for each in self.run_hooks(
                'before-drain', slot=self.path,
                kind=records.Kind(kind))])

    def test_ignored(self) -> None:
        told, = self.run_one('', 'after-canary')
        self.assertIn('not required', told.message)
        late = {each.hook: each.state
                for each in self.run_one('no', 'after-commit')}
        self.assertEqual({'changing': hooks_base.State.IGNORED,
                          'notification': hooks_base.State.DONE}, late)

    def test_what_must_not_be_cut_short(self) -> None:
        """It goes on without the updater, and the next run waits."""
        self.check_it_is_not_cut(lambda pid: [pid])

    def test_its_leash_is_killed(self) -> None:
        """It is not done twice at once even then."""
        def both(pid: int) -> list[int]:
            leash, = Path(f'/proc/{pid}/task/{pid}/children').read_text(
                ).split()
            return [pid, int(leash)]

        self.check_it_is_not_cut(both)

    def check_it_is_not_cut(self, chosen: Callable[[int], list[int]]) -> None:
        """Kill processes when a hook has begun, and run it once more.

        :param chosen: which, given the updater's
        """
        path = self.root / 'log'
        pid = os.fork()
        if not pid:
            try:
                self.run_one(str(path), 'at-start')
            finally:
                os._exit(1)
        processes.poll(path.exists, 'the hook')
        for each in chosen(pid):
            os.kill(each, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.run_one(str(path), 'at-start')
        self.assertEqual('begun done begun done ', path.read_text())

    def test_which_slot(self) -> None:
        """The target's if it is there, else the origin's, else none."""
        empty: list[hooks_base.Outcome] = self.run_hooks(slot=None)
        self.assertEqual([], empty)
        good, _ = self.run_hooks(slot=None, origin_slot=self.path)
        self.assertEqual('2.0.0 False', good.message)

    def test_kept_of_a_sealed_slot(self) -> None:
        """A rollback asks no Python what there is to do."""
        self.seal('{}')
        expected = self.caller().classes(self.path)
        self.assertIn('good', [each.name for each in expected])

        def fail(*_: object, **__: object) -> leashed.Ended:
            raise AssertionError('a process was started')
        self.patch(leashed, 'run', fail)
        self.assertEqual(expected, self.caller().classes(self.path))
        self.assertEqual([], self.run_hooks('before-canary', slot=self.path))
        # Another slot at the same place is another one.
        self.seal('{ }')
        self.assertRaises(AssertionError, self.caller().classes, self.path)

    def test_kept_and_damaged(self) -> None:
        self.seal('{}')
        expected = self.caller().classes(self.path)
        (self.root / 'state' / 'hooks' / 'listed.json').write_text('{')
        self.assertEqual(expected, self.caller().classes(self.path))

    def test_check(self) -> None:
        self.executable('exit 0')
        found = self.caller()
        found.check(self.path)
        self.executable('exit 0', point='before-lunch')
        self.assertRaises(exceptions.InvalidHooks, found.check, self.path)


class InconsistentTest(base.HookCase):
    """It is found when they are loaded, before any is run."""

    def test_too_late(self) -> None:
        """Where a hook that fails changes nothing, neither does this."""
        for point in ('after-commit', 'before-rollback', 'after-rollback'):
            self.executable('exit 0', point=point).chmod(0o775)
            self.assertEqual([], self.run_hooks(point))
            told = self.outcomes.pop()
            self.assertIs(hooks_base.State.IGNORED, told.state)
            self.assertIn('may be changed by others', told.message)
        self.executable('exit 0').chmod(0o775)
        self.assertRaises(exceptions.InvalidHooks, self.run_hooks)

    def refuse(self, classes: str, *words: str, **points: str) -> None:
        error = self.assertRaises(
            exceptions.InvalidHooks, self.caller().run,
            hooks_base.Point('before-soak'),
            self.context(slot=base.make_slot(self.root / 'slot', classes,
                                             points)))
        for word in words:
            self.assertIn(word, str(error))

    def test_lacking(self) -> None:
        self.refuse(CLASSES + "Good.after = ('nobody',)\n", 'good', 'nobody',
                    **POINTS)

    def test_name_of_ours(self) -> None:
        self.refuse(CLASSES + "Good.name = 'copies'\n", 'two hooks',
                    'copies', 'easystack_image', 'hooks_of_a_deployer',
                    copies='Good', slow='Slow')

    def test_import(self) -> None:
        self.refuse('import nonexistent\n', 'cannot be loaded',
                    'nonexistent', good='Good')

    def test_no_python(self) -> None:
        error = self.assertRaises(
            exceptions.InvalidHooks, self.caller().classes, '/nonexistent')
        self.assertIn('/nonexistent', str(error))


class FilesTest(base.HookCase):

    def test_as_glance_reads_them(self) -> None:
        path = self.root / 'glance-api.conf'
        found = self.settings(config_file=str(path))
        self.assertEqual(((str(path),), ()), calls.glance_files(found))
        more = self.root / 'glance-image-import.conf'
        more.write_text('')
        (self.root / 'glance-api.conf.d').mkdir()
        self.assertEqual(((str(more), str(path)), (f'{path}.d',)),
                         calls.glance_files(found))

    def test_nothing_secret_in_the_list(self) -> None:
        """Whatever Python prints when a slot is broken is looked through."""
        slot = self.root / 'slot'
        (slot / 'bin').mkdir(parents=True)
        python = slot / 'bin' / 'python'
        python.write_text('#!/bin/sh\necho mysql://a:hush@h/b >&2; exit 1\n')
        python.chmod(0o755)
        error = self.assertRaises(exceptions.InvalidHooks,
                                  self.caller().classes, str(slot))
        self.assertIn('mysql://a:***@h/b', str(error))

    def test_answer(self) -> None:
        """What a slot's side says is JSON, and on one line."""
        ended = leashed.run([sys.executable, '-m',
                             'easystack_image.ota.hooks', 'list'], 60)
        self.assertEqual(1, len(ended.stdout.splitlines()))
        self.assertIn('copies', [each['name'] for each
                                 in json.loads(ended.stdout)['hooks']])
