"""A little web server on 127.0.0.1 that images are imported from."""

from __future__ import annotations

import http.server
import threading
from typing import Any

from tests.functional import processes


class FileServer:
    """Serves bytes from memory; a context manager."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        files = self._files

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                body = files.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header('Content-Length', str(len(body or b'')))
                self.end_headers()

            def do_GET(self) -> None:
                self.do_HEAD()
                self.wfile.write(files.get(self.path, b''))

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

    def serve(self, path: str, body: bytes) -> str:
        """Offer ``body`` under ``path``, and return its URL."""
        self._files[path] = body
        return f'http://127.0.0.1:{self.port}{path}'
