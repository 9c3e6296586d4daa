"""A deployer's executables: which are run, and what they may say."""

from __future__ import annotations

import os
import signal
import time
import venv

import psutil

from easystack_image import exceptions
from easystack_image.ota.hooks import base as hooks_base
from easystack_image.ota.hooks import calls
from easystack_image.ota.hooks import executables
from tests.functional import processes
from tests.unit.ota.hooks import base


class FindTest(base.HookCase):

    def found(self) -> list[str]:
        return [each.name for each in executables.find(self.directory)]

    def refuse(self, *words: str) -> None:
        error = self.assertRaises(exceptions.InvalidHooks, executables.find,
                                  self.directory)
        for word in words:
            self.assertIn(word, str(error))

    def test_order(self) -> None:
        self.assertEqual([], self.found())
        for name, point in (('20-b', 'after-check'), ('10-a', 'after-check'),
                            ('x.sh', 'before-check')):
            self.executable('exit 0', name, point)
        for name in ('README', '10-a~', '.hidden', '10-a.dpkg-new', 'a.bak'):
            (self.directory / 'after-check' / name).write_text('')
        self.assertEqual(
            ['before-check/x.sh', 'after-check/10-a', 'after-check/20-b'],
            self.found())
        self.assertEqual(1, len(executables.find(
            self.directory, hooks_base.Point('before-check'))))

    def test_link(self) -> None:
        """One program at several points."""
        path = self.executable('exit 0')
        other = self.directory / 'after-soak'
        other.mkdir()
        (other / 'linked').symlink_to(path)
        self.assertEqual(['before-soak/10-mine', 'after-soak/linked'],
                         self.found())

    def test_others_may_write(self) -> None:
        path = self.executable('exit 0')
        for each in (path, path.parent, self.directory):
            mode = each.stat().st_mode
            each.chmod(mode | 0o020)
            self.refuse('may be changed by others', str(each), 'go-w')
            each.chmod(mode | 0o002)
            self.refuse('may be changed by others', str(each))
            each.chmod(mode)
        self.assertEqual(1, len(self.found()))

    def test_behind_a_link(self) -> None:
        """What a link leads to counts, and the directory it is in."""
        path = self.executable('exit 0')
        outside = self.root / 'outside'
        outside.mkdir()
        path.rename(outside / 'real')
        path.symlink_to(outside / 'real')
        self.assertEqual(1, len(self.found()))
        outside.chmod(0o777)
        self.refuse('may be changed by others', str(outside))

    def test_of_another_user(self) -> None:
        if os.geteuid() == 0:
            path = self.executable('exit 0')
            os.chown(path, 4321, -1)
            self.refuse('user 4321', str(path))
        else:
            # Root's are as good as one's own.
            link = self.directory / base.POINT / 'true'
            link.parent.mkdir(parents=True)
            link.symlink_to('/bin/true')
            self.assertEqual(1, len(self.found()))

    def test_not_executable(self) -> None:
        self.executable('exit 0').chmod(0o644)
        self.refuse('not executable', 'chmod +x')

    def test_odd_things(self) -> None:
        (self.directory / 'before-lunch').mkdir(parents=True)
        self.refuse('before-lunch', 'there is no point')
        (self.directory / 'before-lunch').rmdir()
        (self.directory / 'stray').write_text('')
        self.refuse('stray', 'POINT')
        (self.directory / 'stray').unlink()
        (self.directory / base.POINT / '10-mine').mkdir(parents=True)
        self.refuse('no file')
        (self.directory / base.POINT / '10-mine').rmdir()
        (self.directory / base.POINT / 'gone').symlink_to('/nonexistent')
        self.refuse('no file')
        (self.directory / base.POINT / 'gone').unlink()
        self.executable('exit 0', 'a b')
        self.refuse('letters')


class RunTest(base.HookCase):

    def test_exit_codes(self) -> None:
        self.executable('exit 0')
        outcome, = self.run_hooks()
        self.assertEqual(('before-soak/10-mine', hooks_base.State.DONE, ''), (
            outcome.hook, outcome.state, outcome.message))
        for code in (1, 2, 127):
            self.executable(f'echo out; echo the reason >&2; exit {code}')
            error = self.assertRaises(exceptions.HookFailed, self.run_hooks)
            self.assertEqual(
                f'before-soak/10-mine at before-soak: it exited with {code}: '
                'the reason', str(error))
        self.executable('echo not yet; exit 21')
        later = self.assertRaises(exceptions.RetryLater, self.run_hooks)
        self.assertIn('not yet', str(later))
        self.assertEqual(60.0, later.seconds)

    def test_yields(self) -> None:
        """Users of the service go first."""
        self.executable('nice >&2; exit 1')
        error = self.assertRaises(exceptions.HookFailed, self.run_hooks)
        nice = min(os.getpriority(os.PRIO_PROCESS, 0) + 5, 19)
        self.assertTrue(str(error).endswith(f'exited with 1: {nice}'), error)
        if os.path.exists('/proc/self/autogroup'):
            self.executable('cat /proc/self/autogroup >&2; exit 1')
            error = self.assertRaises(exceptions.HookFailed, self.run_hooks)
            # Those who share a session have it from each other.
            self.assertRegex(str(error), 'nice (5|0)$')

    def test_signal(self) -> None:
        self.executable('kill -9 $$')
        error = self.assertRaises(exceptions.HookFailed, self.run_hooks)
        self.assertIn('signal 9', str(error))

    def test_not_a_program(self) -> None:
        path = self.executable('')
        path.write_text('#!/nonexistent\n')
        error = self.assertRaises(exceptions.HookFailed, self.run_hooks)
        self.assertIn('cannot be run', str(error))

    def test_order_ends_with_a_failure(self) -> None:
        for name in ('1', '2', '3'):
            self.executable(f'echo {name} >> {self.root}/log; '
                            f'test {name} != 2', name)
        self.assertRaises(exceptions.HookFailed, self.run_hooks)
        self.assertEqual('1\n2\n', (self.root / 'log').read_text())
        self.assertEqual(['done', 'failed'],
                         [each.state for each in self.outcomes])

    def test_environment(self) -> None:
        os.environ['OS_PASSWORD'] = 'hush'
        self.addCleanup(os.environ.pop, 'OS_PASSWORD')
        self.executable(f'env > {self.root}/env; pwd > {self.root}/cwd; cat')
        # Without Glance, and so without classes.
        slot = str(self.root / '1')
        venv.create(slot)
        self.run_hooks(
            origin=None, slot=None, origin_slot=slot, attempt=2,
            config_files=('/etc/a.conf', '/etc/b.conf'),
            phases=('expand', 'contract'), forced=('copies',), reason='so')
        found = dict(line.split('=', 1) for line in
                     (self.root / 'env').read_text().splitlines())
        self.assertEqual({
            'POINT': 'before-soak', 'KIND': 'upgrade', 'ORIGIN_VERSION': '',
            'TARGET_VERSION': '2.0.0', 'ORIGIN_SLOT': slot, 'SLOT': '',
            'ATTEMPT': '2', 'CONFIG_FILES': '/etc/a.conf:/etc/b.conf',
            'CONFIG_DIRS': '', 'STATE_DIRECTORY': f'{self.root}/state',
            'SLOTS_DIRECTORY': f'{self.root}/opt',
            'DATABASE_PHASES': 'expand contract', 'FORCED': 'copies',
            'REASON': 'so'},
            {name.removeprefix('EASYSTACK_OTA_'): value
             for name, value in found.items() if name.startswith('EASY')})
        self.assertNotIn('OS_PASSWORD', found)
        self.assertIn('PATH', found)
        self.assertEqual('/\n', (self.root / 'cwd').read_text())

    def test_passwords(self) -> None:
        config = self.root / 'glance-api.conf'
        config.write_text('[database]\nconnection = mysql://g:hush-db@h/g\n')
        self.executable('echo it is hush-db >&2; echo token=abc; '
                        'echo mysql://g:hush-db@h/g failed >&2; exit 1')
        error = self.assertRaises(exceptions.HookFailed, self.run_hooks,
                                  config_files=(str(config),))
        told = f'{error} {self.outcomes}'
        self.assertIn('mysql://g:***@h/g failed', str(error))
        for secret in ('hush', 'abc'):
            self.assertNotIn(secret, told)

    def test_much_output(self) -> None:
        """It fills no memory, and its end is kept."""
        self.executable('head -c 20000000 /dev/zero | tr "\\0" x; echo end')
        outcome, = self.run_hooks()
        self.assertLess(len(outcome.output), 100_000)
        self.assertTrue(outcome.output.endswith('xend'))

    def test_too_late_to_decide(self) -> None:
        for point in ('before-rollback', 'after-rollback', 'after-commit'):
            self.executable('echo no >&2; exit 1', point=point)
            outcome, = self.run_hooks(point)
            self.assertIs(hooks_base.State.IGNORED, outcome.state)
            self.assertIn('no (ignored: it is too late', outcome.message)

    def test_forced(self) -> None:
        self.executable('exit 1')
        outcome, = self.run_hooks(forced=('before-soak/10-mine',))
        self.assertIs(hooks_base.State.IGNORED, outcome.state)
        self.assertIn('the operator forced it', outcome.message)
        self.executable('exit 21')
        outcome, = self.run_hooks(forced=('before-soak/10-mine',))
        self.assertIs(hooks_base.State.IGNORED, outcome.state)


class TimeoutTest(base.HookCase):

    def pids(self) -> list[int]:
        """Return the processes that the executable noted."""
        path = self.root / 'pids'
        return [int(line) for line in path.read_text().split()] if (
            path.exists()) else []

    def assertAllGone(self) -> None:
        for pid in self.pids():
            processes.poll(
                lambda pid=pid: not psutil.pid_exists(pid)
                or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE,
                f'the end of {pid}')

    #: Notes itself, a child, and a child with a session of its own.
    SLEEPERS = """\
        trap '' TERM HUP INT
        echo $$ >> {root}/pids
        sleep 1000 & echo $! >> {root}/pids
        setsid sh -c 'echo $$ >> {root}/pids; sleep 1000' &
        while [ $(wc -l < {root}/pids) -lt 3 ]; do sleep 0.01; done
        """

    def test_group_is_killed(self) -> None:
        self.executable(self.SLEEPERS.format(root=self.root) + 'wait')
        begun = time.monotonic()
        error = self.assertRaises(exceptions.HookFailed, self.run_hooks,
                                  timeout=2.0)
        self.assertIn('more than 2 s', str(error))
        self.assertLess(time.monotonic() - begun, 30)
        self.assertEqual(3, len(self.pids()))
        self.assertAllGone()

    def test_what_is_left_is_killed(self) -> None:
        """Or it would be at work when the next step is done."""
        self.executable(self.SLEEPERS.format(root=self.root) + 'exit 0')
        outcome, = self.run_hooks()
        self.assertIs(hooks_base.State.DONE, outcome.state)
        self.assertEqual(3, len(self.pids()))
        self.assertAllGone()

    def test_with_the_updater(self) -> None:
        """It is killed when the updater is, and the next run waits."""
        self.executable(self.SLEEPERS.format(root=self.root) + 'wait')
        pid = os.fork()
        if not pid:
            try:
                self.run_hooks()
            finally:
                os._exit(1)
        processes.poll(lambda: len(self.pids()) == 3, 'the hook')
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.executable('exit 0')
        self.run_hooks()
        self.assertAllGone()

    def test_one_at_a_time(self) -> None:
        self.patch(calls, '_PATIENCE', 0.2)
        self.executable(f'cd {self.root}; touch begun; '
                        'while [ ! -e go ]; do sleep 0.05; done')
        pid = os.fork()
        if not pid:
            try:
                self.run_hooks()
            finally:
                os._exit(0)
        processes.poll((self.root / 'begun').exists, 'the hook')
        later = self.assertRaises(exceptions.RetryLater, self.run_hooks)
        self.assertIn('still at work', str(later))
        self.check_too_late()
        (self.root / 'go').touch()
        self.assertEqual((pid, 0), os.waitpid(pid, 0))
        self.run_hooks()
        self.assertEqual(['done'], [each.state for each in self.run_hooks(
            'after-rollback')])

    def check_too_late(self) -> None:
        """See that nobody who goes back waits for one that is at work."""
        self.patch(calls, '_SHORT', 0.2)
        for point in ('after-commit', 'before-rollback', 'after-rollback'):
            self.executable('exit 0', point=point)
            self.outcomes.clear()
            self.assertEqual([], self.run_hooks(point))
            told, = self.outcomes
            self.assertIs(hooks_base.State.IGNORED, told.state)
            self.assertIn(f'none runs at {point}: a hook of an earlier run '
                          'is still at work', told.message)
