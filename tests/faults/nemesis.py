"""Kills, freezes and restarts parts of a running platform, by seed."""

import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import psutil  # type: ignore[import-untyped]
import redis

from devstack import spawn
from devstack.processes import Service
from devstack.servers import EmbeddedServer
from tests.faults.cluster import DISPATCHERS, LEASE_SECONDS, WORKERS, Cluster
from tests.faults.proxy import Mode

GONE_SECONDS = 20.0
WAYS = ("database", "redis", "api", "storage")
WAY_MODES = (Mode.DELAY, Mode.RESET, Mode.BLACK_HOLE, Mode.CUT_ANSWER)
PEER_FORGETS = 0.5
"""How often the end of a black hole is a reset, and not a silence for ever."""


@dataclass(frozen=True)
class Fault:
    """What was done, and when (seconds since the epoch, the database's clock too)."""

    kind: str
    at: float


@dataclass
class _Pending:
    due: float
    part: str
    undo: Callable[[], None]


class Nemesis:
    """Hurts a cluster until told to stop, and then makes it whole.

    All parts are started from the thread that calls `run`, since they die with it.
    """

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.faults: list[Fault] = []
        self.left_behind: list[psutil.Process] = []
        """Processes below killed workers; none may live on."""
        self._stack = cluster.stack
        self._cluster = cluster
        self._dice = random.Random(seed)
        self._pending: list[_Pending] = []
        self._kinds: dict[str, tuple[int, Callable[[], bool]]] = {
            "api killed": (2, lambda: self._kill_service("api")),
            "api frozen": (1, lambda: self._freeze("api")),
            "dispatcher killed": (2, lambda: self._kill_service(self._one_of(DISPATCHERS))),
            "dispatcher frozen": (2, lambda: self._freeze(self._one_of(DISPATCHERS))),
            "worker killed": (3, lambda: self._kill_service(self._one_of(WORKERS))),
            "worker frozen": (3, lambda: self._freeze(self._one_of(WORKERS))),
            "worker machine frozen": (1, lambda: self._freeze(self._one_of(WORKERS), tree=True)),
            "worker child killed": (3, self._kill_child),
            "redis killed": (1, lambda: self._kill_server(self._stack.redis, signal.SIGKILL)),
            "redis flushed": (2, self._flush_redis),
            "redis connections cut": (1, self._cut_redis),
            "postgres stopped at once": (
                1,
                lambda: self._kill_server(self._stack.postgres, signal.SIGQUIT),
            ),
            "postgres connections cut": (2, self._cut_postgres),
            "storage killed": (2, lambda: self._kill_server(self._stack.s3, signal.SIGKILL)),
            **{f"network: {mode}": (2, partial(self._break_way, mode)) for mode in WAY_MODES},
        }

    @property
    def by_kind(self) -> Counter[str]:
        """How often each fault happened."""
        return Counter(fault.kind for fault in self.faults)

    def run(self, seconds: float) -> None:
        """Hurt for so long. Every kind comes up in turn, in an order drawn anew each round."""
        until = time.monotonic() + seconds
        deck: list[str] = []
        while time.monotonic() < until:
            if not deck:
                deck = [kind for kind, (weight, _) in self._kinds.items() for _ in range(weight)]
                self._dice.shuffle(deck)
            kind = deck.pop()
            at = time.time()
            if self._kinds[kind][1]():
                self.faults.append(Fault(kind, at))
            self._rest(self._dice.uniform(0.5, 2.5))

    def make_whole(self) -> None:
        """End every fault and wait until all parts are ready."""
        for pending in self._pending:
            pending.undo()
        self._cluster.heal()
        self._pending.clear()
        for server in self._stack.servers:
            server.start()
        for service in self._stack.services.values():
            service.start()

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            for pending in [p for p in self._pending if p.due <= now]:
                self._pending.remove(pending)
                pending.undo()
            time.sleep(0.02)

    def _one_of(self, names: tuple[str, ...]) -> str:
        return self._dice.choice(names)

    def _later(self, seconds: float, part: str, undo: Callable[[], None]) -> None:
        self._pending.append(_Pending(time.monotonic() + seconds, part, undo))

    def _hurt(self, part: str) -> bool:
        return any(pending.part == part for pending in self._pending)

    def _kill_service(self, name: str) -> bool:
        service = self._stack.services[name]
        if self._hurt(name) or not service.running:
            return False
        self.left_behind += spawn.descendants(service.pid)
        service.send_signal(signal.SIGKILL)
        self._later(self._dice.uniform(0, 2), name, lambda: _start_again(service))
        return True

    def _kill_child(self) -> bool:
        name = self._one_of(WORKERS)
        service = self._stack.services[name]
        children = spawn.descendants(service.pid) if service.running else []
        if self._hurt(name) or not children:
            return False
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        return True

    def _freeze(self, name: str, *, tree: bool = False) -> bool:
        service = self._stack.services[name]
        if self._hurt(name) or not service.running:
            return False
        family = [psutil.Process(service.pid), *(spawn.descendants(service.pid) if tree else [])]

        def thaw() -> None:
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

        self._later(LEASE_SECONDS + self._dice.uniform(-2, 4), name, thaw)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        return True

    def _kill_server(self, server: EmbeddedServer | None, how: signal.Signals) -> bool:
        if server is None or self._hurt(server.name) or not server.running:
            return False
        pid = server.pid
        psutil.Process(pid).send_signal(how)

        def restart() -> None:
            spawn.wait_gone(pid, seconds=GONE_SECONDS)
            server.start()

        self._later(self._dice.uniform(0, 2), server.name, restart)
        return True

    def _flush_redis(self) -> bool:
        return self._tell_redis("FLUSHALL")

    def _cut_redis(self) -> bool:
        return self._tell_redis("CLIENT KILL TYPE normal") and self._tell_redis(
            "CLIENT KILL TYPE pubsub"
        )

    def _tell_redis(self, command: str) -> bool:
        if self._hurt("redis"):
            return False
        with redis.Redis.from_url(self._stack.redis_url) as connection:
            connection.execute_command(*command.split())
        return True

    def _break_way(self, mode: Mode) -> bool:
        """One way of the four is bad for a moment."""
        name = self._one_of(WAYS)
        if self._hurt(name):
            return False
        way = self._cluster.ways[name]
        peer_forgets = self._dice.random() < PEER_FORGETS

        def mend() -> None:
            way.heal()
            if peer_forgets:
                way.drop_lost()

        way.break_requests(mode)
        self._later(self._dice.uniform(0.5, 4), name, mend)
        return True

    def _cut_postgres(self) -> bool:
        if self._hurt("postgres"):
            return False
        self._cluster.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name LIKE 'pipeline3d%'"
        )
        return True


def _start_again(service: Service) -> None:
    spawn.wait_gone(service.pid, seconds=GONE_SECONDS)
    service.start(wait=False)
