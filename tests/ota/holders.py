"""The holder as a process of its own, started, killed and ended."""

from __future__ import annotations

import os
from pathlib import Path
import signal
import socket

from tests.functional import processes


class Holder(processes.Process):
    """``easystack-image-ota hold``.

    :param config_file: the updater's
    :param run: its run directory
    """

    def __init__(self, config_file: Path, run: Path, log: Path) -> None:
        super().__init__(
            [processes.script('easystack-image-ota'), '--config-file',
             str(config_file), 'hold'], log)
        self._control = run / 'holder'
        self._records = run / 'records'

    def start(self) -> None:
        """Start it; return when it answers."""
        super().start()
        processes.poll(self._answers, 'the holder', interval=0.02)

    def _answers(self) -> bool:
        if not self.running:
            raise processes.ProcessFailed(self.tail())
        with socket.socket(socket.AF_UNIX) as connection:
            if connection.connect_ex(str(self._control)):
                return False
            connection.sendall(b'{"do": "list"}\n')
            return bool(connection.recv(1))

    def end(self) -> None:
        """Tell it to end when all is answered."""
        os.kill(self.pid, signal.SIGTERM)

    def stop(self, timeout: float = 30) -> None:
        """End it and its instances at once, and those of one that died."""
        if not self.running and any(self._records.glob('*.json')):
            self.start()
        if self.running:
            # Two of one kind might be taken for one.
            os.kill(self.pid, signal.SIGINT)
        super().stop(timeout)
