"""A TCP proxy that breaks what goes through it, between any two parts that speak TCP."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

BUFFER = 65_536
HOST = "127.0.0.1"
PATIENCE = 10.0


class Mode(StrEnum):
    """What becomes of a request."""

    PASS = "pass"
    DELAY = "delay"
    """It arrives later."""
    RESET = "reset"
    """It arrives nowhere, and its connection is reset."""
    BLACK_HOLE = "black hole"
    """It arrives nowhere, and nothing comes back."""
    CUT_ANSWER = "cut answer"
    """It arrives; its answer is swallowed and the connection closed."""
    CUT_MIDWAY = "cut midway"
    """It arrives; half of the beginning of its answer comes back, then the connection closes."""
    HOLD_ANSWER = "hold answer"
    """It arrives; nothing comes back, and the connection stays open."""


@dataclass(frozen=True, eq=False)
class Fault:
    """What to do, and with which requests.

    `when` names what a connection must have carried, each in a piece of its own and in this order;
    the last one is the first that is broken.
    """

    mode: Mode
    when: tuple[bytes, ...] = ()


class FaultProxy:
    """Listens on a port of its own and forwards to `target_port`. A context manager."""

    def __init__(self, target_port: int, *, delay_seconds: float = 0.5) -> None:
        self.hurt = threading.Event()
        """Set when the fault that was asked for last has happened."""
        self.delay_seconds = delay_seconds
        self.target_port = target_port
        self.fault = Fault(Mode.PASS)
        self._threads: list[threading.Thread] = []
        self._links: list[_Link] = []
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        """Where an HTTP client is to call."""
        return f"http://{HOST}:{self.port}"

    def instead_of(self, url: str) -> str:
        """The same address, by this way."""
        return url.replace(f":{self.target_port}", f":{self.port}")

    def break_requests(self, mode: Mode, *when: bytes) -> None:
        """From now on do this to requests that contain `when`; let the others pass."""
        self.hurt.clear()
        self.fault = Fault(mode, when)

    def heal(self) -> None:
        """Let everything pass; what has gone into a black hole has gone."""
        self.fault = Fault(Mode.PASS)

    def drop_lost(self) -> None:
        """Reset the connections that a black hole has swallowed, as a peer that was restarted."""
        for link in list(self._links):
            if link.mode is Mode.BLACK_HOLE:
                link.close()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # which ends `accept`
        self._threads[0].join(PATIENCE)
        self._listener.close()
        for link in list(self._links):
            link.close()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _start(self, function: Callable[[], None]) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=function, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((HOST, self.target_port), PATIENCE)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            link = _Link(self, client, server)
            self._links = [known for known in self._links if not known.closed.is_set()] + [link]
            self._start(link.carry_requests)
            self._start(link.carry_answers)


class _Link:
    """One connection through the proxy, carried by two threads until either end closes."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, server: socket.socket) -> None:
        self.mode = Mode.PASS
        self.closed = threading.Event()
        self._proxy = proxy
        self._client = client
        self._server = server
        self._fault = Fault(Mode.PASS)
        self._wanted: list[bytes] = []
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """End both threads, which close their sockets."""
        self.closed.set()
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def carry_requests(self) -> None:
        """From the client to the server."""
        with self._client, contextlib.suppress(OSError):
            while data := self._client.recv(BUFFER):
                # A request may come in several parts; what befell the first befalls the rest.
                if self.mode in {Mode.PASS, Mode.DELAY}:
                    self.mode = self._mode_of(data)
                if self.mode is Mode.RESET:
                    linger_not = struct.pack("ii", 1, 0)
                    self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_not)
                    self._client.close()
                    break
                if self.mode is Mode.BLACK_HOLE:
                    continue
                if self.mode is Mode.DELAY:
                    time.sleep(self._proxy.delay_seconds)
                self._server.sendall(data)
        self.close()

    def carry_answers(self) -> None:
        """From the server to the client."""
        with self._server, contextlib.suppress(OSError):
            while data := self._server.recv(BUFFER):
                if self.mode in {Mode.HOLD_ANSWER, Mode.BLACK_HOLE}:
                    continue
                if self.mode is Mode.CUT_MIDWAY:
                    self._client.sendall(data[: len(data) // 2])
                if self.mode in {Mode.CUT_ANSWER, Mode.CUT_MIDWAY}:
                    break
                self._client.sendall(data)
        self.close()

    def _mode_of(self, data: bytes) -> Mode:
        if self._fault is not self._proxy.fault:
            self._fault = self._proxy.fault
            self._wanted = list(self._fault.when)
        if self._wanted:
            if self._wanted[0] not in data:
                return Mode.PASS
            if len(self._wanted) > 1:
                del self._wanted[0]
                return Mode.PASS
        if self._fault.mode is not Mode.PASS:
            self._proxy.hurt.set()
        return self._fault.mode
