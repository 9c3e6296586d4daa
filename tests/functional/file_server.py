"""A little web server on 127.0.0.1 that images are imported from."""

from __future__ import annotations

import http.server
import threading
import time
from typing import Any

from tests.functional import processes


class FileServer:
    """Serves bytes from memory; a context manager."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        self._rates: dict[str, int] = {}
        files, rates = self._files, self._rates

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                body = files.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header('Content-Length', str(len(body or b'')))
                self.end_headers()

            def do_GET(self) -> None:
                self.do_HEAD()
                body = files.get(self.path, b'')
                rate = rates.get(self.path)
                # Ten pieces a second.
                size = rate // 10 if rate else len(body) or 1
                for start in range(0, len(body), size):
                    self.wfile.write(body[start:start + size])
                    time.sleep(0.1 if rate else 0)

            def log_message(self, *args: Any) -> None:
                """Say nothing; the tests look at Glance's log."""

        self.port = processes.free_port()
        self._server = http.server.ThreadingHTTPServer(
            ('127.0.0.1', self.port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever,
                                        daemon=True)

    def __enter__(self) -> FileServer:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve(self, path: str, body: bytes, rate: int = 0) -> str:
        """Offer ``body`` under ``path``, and return its URL.

        :param rate: in bytes per second; 0 for as fast as it gets
        """
        self._files[path] = body
        self._rates[path] = rate
        return f'http://127.0.0.1:{self.port}{path}'
