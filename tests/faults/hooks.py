"""Somebody who is told of jobs by webhook, in a thread, and now and then is busy."""

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from typing_extensions import override

BUSY = 0.05
"""How often it answers 503, so that some are told a second time."""


class Hooks:
    """What it took: the ids of events that it has answered with a 2xx.

    Args:
        port: where it listens.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hook"
        self._taken: set[str] = set()
        self._lock = threading.Lock()

    @property
    def taken(self) -> frozenset[str]:
        """The ids until now."""
        with self._lock:
            return frozenset(self._taken)

    def take(self, event_id: str) -> int:
        """The status to answer with."""
        if random.random() < BUSY:
            return 503
        with self._lock:
            self._taken.add(event_id)
        return 204


@contextmanager
def listening() -> Iterator[Hooks]:
    """On a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Take one message."""
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(hooks.take(json.loads(body)["event_id"]))
            self.end_headers()

        @override
        def log_message(self, format: str, *args: object) -> None:
            """Nothing: there are thousands."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hooks = Hooks(server.server_port)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield hooks
        finally:
            server.shutdown()
            thread.join()
