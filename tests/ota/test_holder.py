"""The holder is killed, and ended: nobody who is served notices."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from typing import Any

from easystack_image.ota.serving import launcher as launcher_module
from tests.functional import processes
from tests.ota import test_serving
from tests.ota import upgrades

#: Seconds for which the holder is missed, after it was killed in an upgrade.
MISSED = 0.3


class TestHolder(upgrades.UpgradeCase):
    """A holder that is killed, or ended, and another one that follows."""

    def setUp(self) -> None:
        super().setUp()
        self.launcher = launcher_module.HolderLauncher(self.root / 'run')
        #: Which instance serves.
        self.first, = self.masters()

    def masters(self) -> dict[str, int | None]:
        return {each.name: each.pid for each in self.launcher.list()}

    @contextlib.contextmanager
    def nobody_notices(self) -> Iterator[test_serving.Load]:
        with self.load() as load:
            yield load
            moment = time.monotonic()
            processes.poll(lambda: load.since(moment), 'answers')
        self.assertEqual([], load.failures)

    def replace(self) -> None:
        """Kill the holder, and start another one."""
        self.holder.kill()
        self.holder.start()

    def test_at_rest(self) -> None:
        """All that is told to a holder is done by the next one as well."""
        slot = self.launcher.list()[0].slot
        self.launcher.start('standby', slot)
        self.launcher.start('leaving', slot)
        processes.poll(lambda: all(
            self.launcher.instance(name).loaded
            for name in ('standby', 'leaving')), 'the others')
        self.launcher.forget('leaving')
        before = self.masters()
        with self.nobody_notices(), upgrades.Upload(self.port) as upload:
            for _ in range(2):
                self.replace()
                self.assertEqual(before, self.masters())
            self.launcher.start('standby', slot)
            self.assertEqual(before, self.masters())
            # One that nobody wants ends, one that dies is started again.
            self.launcher.instance('leaving').leave()
            os.kill(before['standby'] or 0, signal.SIGKILL)
            processes.poll(lambda: self.masters().get('standby') not in (
                None, before['standby']), 'a new start')
            processes.poll(lambda: 'leaving' not in self.masters(), 'the end')
            # Both are killed at once.
            self.holder.kill()
            pid = json.loads((self.root / 'run/records/standby.json'
                              ).read_text())['process']['pid']
            os.kill(pid, signal.SIGKILL)
            self.holder.start()
            processes.poll(lambda: self.masters()['standby'] not in (
                None, pid), 'a new start')
            self.launcher.stop('standby')
            self.assertEqual([self.first], list(self.masters()))
        self.assertEqual([self.first], upload.answers)
        self.assertEqual([self.first], sorted(
            path.name for path in (self.root / 'run/i').iterdir()))
        self.assertFalse(processes.is_free(self.port))

    def refusal(self, code: int, *words: object) -> str:
        """Return why a holder does not start."""
        done = subprocess.run(
            self.arguments('hold', *words), capture_output=True, text=True,
            timeout=upgrades.TIMEOUT, stdin=subprocess.DEVNULL)
        self.assertEqual(code, done.returncode, done.stderr)
        return done.stderr

    def test_nothing_is_left(self) -> None:
        """The address is free, then, and the release is started."""
        pid = self.masters()[self.first]
        with self.nobody_notices():
            self.assertIn('another holder', self.refusal(4))
            self.holder.kill()
            self.assertIn(f'listen at 127.0.0.1:{self.port}', self.refusal(
                1, '--listen', f'127.0.0.1:{processes.free_port()}'))
        os.kill(pid or 0, signal.SIGKILL)
        stale = self.root / 'run/i/stale'
        stale.mkdir()
        self.holder.start()
        self.assertEqual(self.first, test_serving.ask(self.port))
        self.assertFalse(stale.exists())

    def reached(self, target: str, step: str) -> None:
        processes.poll(lambda: self.event(target, step), step, interval=0.01)

    def test_replaced(self) -> None:
        """The upgrade goes on: it waits for the next holder."""
        with self.nobody_notices():
            child = self.start_command('upgrade', '2.0.0', '--soak', '2')
            for step in ('start', 'canary', 'hand-over', 'soak'):
                self.reached('2.0.0', step)
                self.holder.kill()
                time.sleep(MISSED)
                self.holder.start()
            output, errors = child.communicate(timeout=upgrades.TIMEOUT)
            self.assertEqual(0, child.returncode, errors)
            self.serves('2.0.0')
        found: Any = json.loads(output)
        self.assertEqual('committed', found['outcome'])

    def test_resumed(self) -> None:
        """The command is killed with the holder, there and back again."""
        there = ('2.0.0', 'upgrade', '2.0.0', '--soak', '1')
        back = ('1.0.0', 'rollback')
        for step, (target, *words) in (
                ('start', there), ('canary', back), ('hand-over', there),
                ('drain', back), ('soak', there)):
            with self.nobody_notices():
                child = self.start_command(*words)
                self.reached(target, step)
                self.holder.kill()
                child.kill()
                child.communicate()
                self.holder.start()
                self.succeed('resume')
                self.serves(target)

    def end(self) -> int:
        """Return how the holder ends."""
        child = self.holder._child
        assert child
        return child.wait(upgrades.TIMEOUT)

    def test_all_is_answered(self) -> None:
        with upgrades.Upload(self.port) as upload:
            instance = self.launcher.instance(self.first)
            processes.poll(lambda: instance.in_flight() == 1, 'the upload')
            self.holder.end()
            processes.poll(lambda: not self.serves_new(), 'a refusal')
            time.sleep(1)
            self.assertTrue(self.holder.running)
            self.assertIn('another signal kills', self.holder.tail())
            # The next one can serve meanwhile, if this one is killed.
            self.replace()
            processes.poll(self.serves_new, 'a new instance')
            self.assertEqual({self.first, '1.0.0.0'}, set(self.masters()))
        self.assertEqual([self.first], upload.answers)
        processes.poll(lambda: len(self.masters()) == 1, 'the end')
        # Who is refused, was refused at once: nobody is cut.
        with self.load() as load:
            moment = time.monotonic()
            processes.poll(lambda: load.since(moment), 'answers')
            self.holder.end()
            self.assertEqual(0, self.end())
        self.assertEqual(
            set(), {failure for failure in load.failures
                    if not failure.startswith('ConnectionRefused')})
        self.assertEqual([], list((self.root / 'run/i').iterdir()))

    def serves_new(self) -> bool:
        try:
            test_serving.ask(self.port, timeout=5)
        except ConnectionRefusedError:
            return False
        return True

    def test_twice(self) -> None:
        slow = threading.Thread(target=self.cut)
        slow.start()
        instance = self.launcher.instance(self.first)
        processes.poll(lambda: instance.in_flight() == 1, 'a request')
        self.holder.end()
        processes.poll(lambda: 'another signal' in self.holder.tail(), 'it')
        self.holder.end()
        self.assertEqual(1, self.end())
        slow.join()

    def cut(self) -> None:
        self.assertRaises(ConnectionError, test_serving.ask, self.port, 60)
