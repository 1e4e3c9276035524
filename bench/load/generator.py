"""A load generator that costs little: keep-alive connections, one request at a time on each.

It runs in processes of its own and neither builds requests nor parses bodies while it measures.
"""

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from typing import cast

import uvloop

_LENGTH = b"\r\ncontent-length:"


@dataclass(frozen=True)
class Load:
    """What one generator did: how long it took, every latency in seconds and every status."""

    seconds: float
    latencies: list[float]
    statuses: Counter[int]


def request_bytes(
    method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> bytes:
    """A request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class _Connection(asyncio.Protocol):
    def __init__(self, requests: Sequence[bytes], until: float, load: Load) -> None:
        self._requests = cycle(requests)
        self._until = until
        self._load = load
        self._buffer = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        found = head.lower().find(_LENGTH)
        length = int(head[found + len(_LENGTH) :].split(b"\r\n", 1)[0]) if found >= 0 else 0
        if len(rest) < length:
            return
        now = time.perf_counter()
        self._load.latencies.append(now - self._sent_at)
        self._load.statuses[int(head[9:12])] += 1
        self._buffer = b""
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            if error or time.perf_counter() < self._until:
                self.done.set_exception(error or ConnectionError("the server hung up"))
            else:
                self.done.set_result(None)


async def _drive(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Load:
    start = time.perf_counter()
    load = Load(seconds, [], Counter())
    loop = asyncio.get_running_loop()
    waiting = []
    for index in range(connections):
        mine = [*requests[index:], *requests[:index]]
        _, connection = await loop.create_connection(
            lambda mine=mine: _Connection(mine, start + seconds, load), "127.0.0.1", port
        )
        waiting.append(connection.done)
    await asyncio.gather(*waiting)
    return Load(time.perf_counter() - start, load.latencies, load.statuses)


def _run(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Load:
    return uvloop.run(_drive(port, requests, connections, seconds))


class Generator:
    """Generator processes, kept from one measurement to the next."""

    def __init__(self, *, processes: int = 2, connections: int = 16) -> None:
        self._processes = processes
        self._connections = connections // processes
        self._pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))

    def run(self, port: int, requests: Sequence[bytes], seconds: float) -> Load:
        """Send the requests round and round for so long."""
        loads = [
            future.result()
            for future in [
                self._pool.submit(_run, port, list(requests), self._connections, seconds)
                for _ in range(self._processes)
            ]
        ]
        return Load(
            max(load.seconds for load in loads),
            [latency for load in loads for latency in load.latencies],
            sum((load.statuses for load in loads), Counter()),
        )

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown()
