"""Who loads yields to who serves, if there is a way back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unittest

from tests.unit.ota import base

#: Prints the nice values of a process: before, of two threads meanwhile, and
#: of both afterwards, when one of them was started meanwhile and lives on.
_PROGRAM = """\
import json, os, resource, sys, threading, time
from easystack_image.ota.serving import niceness
def value():
    return os.getpriority(os.PRIO_PROCESS, 0)
user, start, longest = map(int, sys.argv[1:])
os.setpriority(os.PRIO_PROCESS, 0, start)
if user:
    resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
    os.setuid(user)
found, ended, measured = [value()], threading.Event(), threading.Event()
def other():
    found.append(value())
    measured.set()
    ended.wait()
    found.append(value())
thread = threading.Thread(target=other)
with niceness.yielding(longest):
    while longest < 9 and value() > start:
        time.sleep(0.01)
    found.append(value())
    thread.start()
    measured.wait()
found.append(value())
ended.set()
thread.join()
print(json.dumps(found))
"""
NOBODY = 65534


@unittest.skipUnless(os.geteuid() == 0, 'root can act for another user')
class TestYielding(base.Case):

    def values(self, user: int, start: int,
               longest: int = 60) -> list[int]:
        done = subprocess.run(
            [sys.executable, '-c', _PROGRAM, *map(str, (
                user, start, longest))],
            capture_output=True, text=True, timeout=60, check=True)
        found: list[int] = json.loads(done.stdout)
        return found

    def test_root(self) -> None:
        self.assertEqual([0, 10, 10, 0, 0], self.values(0, 0))
        self.assertEqual([5, 10, 10, 5, 5], self.values(0, 5))

    def test_no_way_back(self) -> None:
        """Everything stays as it is."""
        self.assertEqual([0] * 5, self.values(NOBODY, 0))
        self.assertEqual([3] * 5, self.values(NOBODY, 3))

    def test_too_long(self) -> None:
        """Who finds no time goes on as before."""
        self.assertEqual([0] * 5, self.values(0, 0, longest=1))

    def test_nothing_to_yield(self) -> None:
        self.assertEqual([10] * 5, self.values(0, 10))
