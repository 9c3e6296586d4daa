"""What is seen on a terminal: bars, tables that fit, numbers."""

from __future__ import annotations

import fcntl
import io
import json
import os
import signal
import struct
import subprocess
import termios
import threading
import time

import testtools

from easystack_image.cmd import columns
from easystack_image.cmd import progress
from tests.unit.cmd import base
from tests.unit.cmd import moving

MIB = progress.MIB


class Terminal:
    """A terminal of 80 columns and 24 lines, and what is written to it."""

    def __init__(self) -> None:
        self._ours, self.fd = os.openpty()
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ,
                    struct.pack('4H', 24, 80, 0, 0))
        self._written = b''
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._ours, 65536):
                self._written += data
        except OSError:
            # Nobody has the other end open any more.
            pass

    def close(self) -> str:
        """Return what was written."""
        os.close(self.fd)
        self._reader.join()
        os.close(self._ours)
        return self._written.decode()


class TerminalTest(moving.MovingCase):

    def seen(self, *arguments: object, stdout: bool = True,
             ) -> tuple[str, str]:
        """Run a command on a terminal; return what is seen, and stdout."""
        terminal = Terminal()
        done = subprocess.run(
            [base.COMMAND, '--config-file', self.config,
             *map(str, arguments)], text=True, stdin=subprocess.DEVNULL,
            stdout=terminal.fd if stdout else subprocess.PIPE,
            stderr=terminal.fd, timeout=60,
            env=self.environment(TERM='xterm-256color', LANG='C.UTF-8'))
        seen = terminal.close()
        self.assertEqual(0, done.returncode, seen)
        return seen, done.stdout or ''

    def test_bar(self) -> None:
        """With rate and time left, and apart from what is parsed."""
        seen, output = self.seen('scrub', '--rate-limit', '16', '-f', 'json',
                                 stdout=False)
        self.assertEqual(self.IMAGES, json.loads(output)[0]['images'])
        self.assertIn('━', seen)
        self.assertRegex(seen, r'\d/8 images')
        self.assertRegex(seen, r'\d MiB/s +0:00:0\d')

    def test_tables_fit(self) -> None:
        self.configure(4)
        self.done('device', 'add', self.paths[3])
        for words in (('device', 'list'), ('copies', 'list'),
                      ('copies', 'show', min(self.images)), ('capacity',),
                      ('rebalance', '--dry-run'), ('rebalance',)):
            lines = [line.rstrip() for line in self.seen(*words)[0]
                     .splitlines() if line.startswith(('+', '|'))]
            self.assertGreater(len(lines), 3)
            self.assertEqual(1, len({len(line) for line in lines}), lines)
            self.assertLessEqual(len(lines[0]), 80, lines[0])
            # No line goes on in the next one.
            for line in lines:
                self.assertTrue(line[0] == '+' or line.split('|')[1].strip(),
                                lines)


    def test_narrow(self) -> None:
        """A column is left out rather than paths broken."""
        width = len(self.manage('device', 'list').output.splitlines()[0])
        for less, there in ((0, True), (1, False)):
            result = self.run_command(
                '--config-file', self.config, 'device', 'list',
                COLUMNS=str(width - less))
            self.assertEqual(there, '| total ' in result.output)
            for path in self.paths[:3]:
                self.assertIn(f'| {path} |', result.output)
            self.assertIn('| copies |', result.output)

    def test_messages_fit(self) -> None:
        """Lines end between words, and paths stay whole."""
        self.configure(4)
        seen, _ = self.seen('device', 'add', self.paths[3])
        lines = [line.rstrip() for line in seen.splitlines()
                 if not line.startswith(('+', '|'))]
        self.assertGreater(len(lines), 1)
        for line in lines:
            self.assertLessEqual(len(line), 80)
        self.assertEqual(
            f'{self.paths[3]} belongs to the set now. Restart Glance and the '
            'healer, if they do not know it yet; then "rebalance" gives it '
            'its share of the images.', ' '.join(lines))

    def test_rows_as_blocks(self) -> None:
        """Cells of a few letters, on many lines, are not for people."""
        image_id = min(self.images)
        seen, _ = self.seen('copies', 'show', '--long', image_id)
        self.assertNotIn('|', seen)
        paths = [line.split()[1] for line in seen.splitlines()
                 if line.startswith('path ')]
        self.assertEqual({str(self.copy(path, image_id))
                          for path in self.paths[:3]}, set(paths))


class ReportTest(testtools.TestCase):

    def test_by_bytes(self) -> None:
        """Images differ too much to be counted."""
        report = progress.Report('scrub')
        report.begin(10, 100 * MIB)
        report.advance(1, 50 * MIB)
        self.assertEqual(0.5, report.share())
        report.advance(0, 60 * MIB)
        # More was read than expected, but not all images are done.
        self.assertEqual(0.99, report.share())
        report.advance(9, 0)
        self.assertEqual(1.0, report.share())

    def test_by_images(self) -> None:
        report = progress.Report('plan')
        report.begin(4, 0)
        self.assertEqual((0.0, None), (report.share(), report.left()))
        report.advance(1, 0)
        self.assertEqual(0.25, report.share())
        self.assertLess(report.left(), 60)

    def test_nothing_to_do(self) -> None:
        report = progress.Report('repair')
        self.assertEqual(0.0, report.share())
        report.begin(0, 0)
        self.assertEqual((0.0, 0.0), (report.share(), report.rate()))

    def test_rate(self) -> None:
        report = progress.Report('scrub')
        report.begin(2, 100 * MIB)
        began = time.monotonic()
        while time.monotonic() < began + 1:
            report.advance(0, MIB // 10)
            time.sleep(0.01)
        took = time.monotonic() - began
        self.assertAlmostEqual(1, report.rate() * took / report.size,
                               places=1)
        self.assertAlmostEqual(
            1, report.left() * report.rate() / (100 * MIB - report.size),
            places=1)

    def test_lines(self) -> None:
        """Not one for each block that is read."""
        stream = io.StringIO()
        report = progress.Lines('scrub', stream, 0.2)
        report.begin(2, 2 * MIB)
        began = time.monotonic()
        while time.monotonic() < began + 0.9:
            report.advance(0, 1024)
            time.sleep(0.01)
        lines = stream.getvalue().splitlines()
        self.assertTrue(2 <= len(lines) <= 4, lines)
        self.assertTrue(lines[0].startswith('scrub: 0/2 images, '))


class SignalTest(testtools.TestCase):

    def test_first_and_second(self) -> None:
        """The first lets work end cleanly; then signals do what they did."""
        before = {number: signal.getsignal(number)
                  for number in progress.SIGNALS}
        for number in progress.SIGNALS:
            with progress.until_signal() as stop:
                self.assertFalse(stop.is_set())
                os.kill(os.getpid(), number)
                self.assertTrue(stop.wait(5))
                self.assertEqual(before, {
                    each: signal.getsignal(each) for each in before})
        with progress.until_signal():
            self.assertNotEqual(before[signal.SIGTERM],
                                signal.getsignal(signal.SIGTERM))
        self.assertEqual(before, {each: signal.getsignal(each)
                                  for each in before})


    def test_while_the_event_is_locked(self) -> None:
        """The main thread is where it is when a signal comes."""
        before = signal.getsignal(signal.SIGTERM)
        with progress.until_signal() as stop:
            with stop._cond:
                os.kill(os.getpid(), signal.SIGTERM)
                # The handler has run by now, in this very thread.
                self.assertEqual(before, signal.getsignal(signal.SIGTERM))
            self.assertTrue(stop.wait(5))


class ColumnTest(testtools.TestCase):

    def test_size(self) -> None:
        for value, text in ((0, '0B'), (999, '999B'), (1000, '1.0K'),
                            (1024, '1.0K'), (1536, '1.5K'),
                            (9.96 * 1024, '10K'), (999.6 * 1024, '1.0M'),
                            (MIB, '1.0M'), (931 * 1024 * MIB, '931G'),
                            (5 * 1024 ** 4, '5.0T')):
            self.assertEqual(text, columns.size(value))
            self.assertEqual(f'{text:>5}', columns.Size(
                int(value)).human_readable())

    def test_for_scripts(self) -> None:
        """They get what is exact."""
        zone = '7a8d4855-6f0e-4d7c-9a51-1f2e3d4c5b6a'
        for column, human, machine in (
                (columns.Size(1536), ' 1.5K', 1536),
                (columns.Size(None), '', None),
                (columns.Number(7), '     7', 7),
                (columns.Number(None), '', None),
                (columns.Moment(0.0), '-', ''),
                (columns.Moment(1795000000.7), '2026-11-18 11:06',
                 '2026-11-18T11:06:40Z'),
                (columns.Name(zone), '7a8d4855', zone),
                (columns.Name('rack 2'), 'rack 2', 'rack 2'),
                (columns.Percent(99.97), ' 99%', 100.0),
                (columns.Count((2, 3)), '2 of 3', 2)):
            self.assertEqual((human, machine), (
                column.human_readable(), column.machine_readable()))
