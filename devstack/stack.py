"""The whole platform from one folder: three servers and four processes."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from devstack import ports, services
from devstack.errors import DevstackError
from devstack.ports import HOST
from devstack.processes import Service
from devstack.servers import EmbeddedServer, PostgresServer, RedisServer, S3Server
from devstack.settings import ROOT, app_environment, fresh_settings

Server = TypeVar("Server", bound=EmbeddedServer)
PORT_TRIES = 5
STOP_ORDER = ("dispatcher", "worker", "dashboard", "api")


@dataclass(frozen=True)
class Ports:
    """Where things should listen on 127.0.0.1; what is taken, or None, becomes any free port."""

    api: int | None = None
    dashboard: int | None = None
    s3: int | None = None
    postgres: int | None = None
    redis: int | None = None


class Stack:
    """A running platform, its data in `folder`.

    `settings` are those of `.env`; without them, `.env.example` with fresh secrets. With
    `external`, a DATABASE_URL, REDIS_URL or MINIO_ENDPOINT among them names a server to use instead
    of an embedded one. `fast` makes Postgres forgo fsync. Start everything with `start` or as a
    context manager, or step by step with `start_servers`, `migrate` and `start_services`. The
    thread that starts it must live as long as it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: Mapping[str, str] | None = None,
        listen: Ports | None = None,
        external: bool = False,
        fast: bool = False,
    ) -> None:
        self.folder = folder.resolve()
        self.logs = self.folder / "logs"
        self.services: dict[str, Service] = {}
        self._given = dict(fresh_settings() if settings is None else settings)
        self._listen = listen or Ports()
        self._api_port = self._listen.api
        self._dashboard_port = self._listen.dashboard

        def unless_external(setting: str, make: Callable[[], Server]) -> Server | None:
            return None if external and self._given.get(setting) else make()

        self.postgres = unless_external(
            "DATABASE_URL",
            lambda: PostgresServer(
                self.folder / "postgres", port=self._listen.postgres, may_move=True, fast=fast
            ),
        )
        self.redis = unless_external(
            "REDIS_URL",
            lambda: RedisServer(
                self.folder / "redis", port=self._listen.redis, may_move=True, password=True
            ),
        )
        self.s3 = unless_external(
            "MINIO_ENDPOINT",
            lambda: S3Server(
                self.folder / "s3",
                port=self._listen.s3,
                may_move=True,
                access_key=self._given["MINIO_ACCESS_KEY"],
                secret_key=self._given["MINIO_SECRET_KEY"],
                bucket=self._given["MINIO_BUCKET"],
            ),
        )

    @property
    def servers(self) -> list[EmbeddedServer]:
        """The embedded servers, in the order of starting."""
        return [server for server in (self.postgres, self.redis, self.s3) if server is not None]

    @property
    def settings(self) -> dict[str, str]:
        """What the processes are told; complete once the servers run."""
        storage = {} if self.s3 is None else {"MINIO_PUBLIC_ENDPOINT": "", "MINIO_SECURE": ""}
        api = {} if self._api_port is None else {"API_URL": self.api_url}
        return {
            **self._given,
            **storage,
            **api,
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "MINIO_ENDPOINT": self.storage_url,
        }

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL of the database."""
        return self._given["DATABASE_URL"] if self.postgres is None else self.postgres.url

    @property
    def redis_url(self) -> str:
        """The URL of Redis."""
        return self._given["REDIS_URL"] if self.redis is None else self.redis.url

    @property
    def storage_url(self) -> str:
        """The address of the object store."""
        return self._given["MINIO_ENDPOINT"] if self.s3 is None else self.s3.url

    @property
    def api_url(self) -> str:
        """The address of the API, without a path; known once it runs."""
        return f"http://{HOST}:{self._api_port}"

    @property
    def dashboard_url(self) -> str:
        """The address of the dashboard; known once it runs."""
        return f"http://{HOST}:{self._dashboard_port}"

    @property
    def admin_api_key(self) -> str:
        """The first administrator's API key."""
        return self._given["FIRST_SUPERUSER_API_KEY"]

    @property
    def worker_api_key(self) -> str:
        """What workers present to the API."""
        return self._given["WORKER_API_KEY"]

    @property
    def ports(self) -> Ports:
        """Where things really listen; complete once all run."""
        return Ports(
            api=self._api_port,
            dashboard=self._dashboard_port,
            s3=self.s3.port if self.s3 else None,
            postgres=self.postgres.port if self.postgres else None,
            redis=self.redis.port if self.redis else None,
        )

    def start(self) -> Self:
        """Start all of it; when this fails, nothing of it is left running.

        Raises:
            DevstackError: something did not start; with the end of its log.
        """
        try:
            self.start_servers()
            self.migrate()
            self.start_services()
        except BaseException:
            self.stop()
            raise
        return self

    def start_servers(self) -> None:
        """Start the embedded servers and wait until they answer."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for server in self.servers:
            server.start()

    def migrate(self) -> None:
        """Bring the database up to date and seed it."""
        self.run_once("migrate", "alembic", "upgrade", "head")
        self.run_once("seed", "app.initial_data")

    def run_once(self, name: str, module: str, *arguments: str) -> str:
        """Run one of the app's modules to its end, and answer what it printed.

        Raises:
            DevstackError: it failed; with the end of its log.
        """
        log = self.logs / f"{name}.log"
        log.unlink(missing_ok=True)
        service = Service(
            name,
            [sys.executable, "-m", module, *arguments],
            env=app_environment(self.settings),
            cwd=ROOT,
            log_path=log,
        )
        if service.run() != 0:
            raise DevstackError(service.describe_end())
        return log.read_text(errors="replace")

    def start_services(self) -> None:
        """Start api, dispatcher, worker and dashboard, and wait until each is ready."""
        # First, since the others are told its address.
        self._api_port = self._start_on_a_port(
            lambda port: services.api(self.settings, port, self.logs), self._listen.api
        )
        rest = [
            services.dispatcher(self.settings, self.logs),
            services.worker(self.settings, self.folder / "worker", self.logs),
        ]
        for service in rest:
            self.services[service.name] = service.start(wait=False)
        self._dashboard_port = self._start_on_a_port(
            lambda port: services.dashboard(self.settings, port, self.logs), self._listen.dashboard
        )
        for service in rest:
            service.wait_until_ready()

    def _start_on_a_port(self, make: Callable[[int], Service], wanted: int | None) -> int:
        """Start a service on `wanted` or a free port, again if somebody takes that first."""
        for attempt in range(1, PORT_TRIES + 1):
            port = ports.free_port() if wanted is None else ports.prefer(wanted)
            service = make(port)
            self.services[service.name] = service
            try:
                service.start()
            except DevstackError:
                service.stop()
                if ports.is_free(port) or attempt == PORT_TRIES:
                    raise
            else:
                return port
        raise AssertionError

    def add_worker(self, name: str, settings: Mapping[str, str] | None = None) -> Service:
        """One more worker, with settings of its own; started and ready, it stops with the rest."""
        chosen = {**self.settings, **(settings or {})}
        worker = services.worker(chosen, self.folder / name, self.logs, name)
        self.services[name] = worker
        return worker.start()

    def check(self) -> None:
        """See that all parts live.

        Raises:
            DevstackError: a part ended by itself; with the end of its log.
        """
        parts: list[Service | EmbeddedServer] = [*self.servers, *self.services.values()]
        for part in parts:
            if not part.running:
                raise DevstackError(
                    f"{part.name} ended by itself. Its log ({part.log_path}) ends with:\n"
                    f"{part.log_tail()}"
                )

    def stop(self) -> None:
        """Stop everything: first who asks, then who answers."""
        extra = [name for name in self.services if name not in STOP_ORDER]
        for name in (*extra, *STOP_ORDER):
            if name in self.services:
                self.services[name].stop()
        for server in reversed(self.servers):
            server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
