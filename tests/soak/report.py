"""What happened, as it happens and in the end."""

from __future__ import annotations

import collections
import threading
import time


class Report:
    """Counts and tells; called from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begin = time.monotonic()
        #: What was done, by kind.
        self.operations: collections.Counter[str] = collections.Counter()
        self.bytes: collections.Counter[str] = collections.Counter()
        self.faults: collections.Counter[str] = collections.Counter()
        #: Errors that the faults of the time explain.
        self.errors: collections.Counter[str] = collections.Counter()
        #: What must not happen.
        self.failures: list[str] = []

    def say(self, text: str) -> None:
        """Print a line, with the seconds since the beginning."""
        with self._lock:
            print(f'{self.seconds():7.1f} {text}', flush=True)

    def seconds(self) -> float:
        """Return how long it has been going on."""
        return time.monotonic() - self._begin

    def done(self, operation: str, size: int = 0) -> None:
        """Count an operation that went well.

        :param size: bytes that were sent or received
        """
        with self._lock:
            self.operations[operation] += 1
            self.bytes[operation] += size

    def fault(self, kind: str) -> None:
        """Count a fault that was caused."""
        with self._lock:
            self.faults[kind] += 1

    def error(self, kind: str) -> None:
        """Count an error that had to be expected."""
        with self._lock:
            self.errors[kind] += 1

    def fail(self, text: str) -> None:
        """Note what must not happen."""
        with self._lock:
            self.failures.append(f'{self.seconds():.1f} s: {text}')
        self.say(f'FAILURE {text}')

    def summary(self, more: dict[str, object]) -> str:
        """Return the summary.

        :param more: other figures, by name
        """
        lines = ['operations']
        lines += [f'  {name:28} {count:7} {self.bytes[name] / 2 ** 20:9.1f} '
                  'MiB' for name, count in sorted(self.operations.items())]
        for title, counts in (('faults', self.faults),
                              ('errors that the faults explain',
                               self.errors)):
            lines.append(title)
            lines += [f'  {name:60} {count:7}'
                      for name, count in sorted(counts.items())]
        lines += [f'{name:30} {value}' for name, value in more.items()]
        lines.append(f'{"duration":30} {self.seconds():.0f} s')
        lines.append(f'{"failures":30} {len(self.failures)}')
        lines += [f'  {failure}' for failure in self.failures]
        return '\n'.join(lines)
