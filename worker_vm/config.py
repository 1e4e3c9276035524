"""Settings from the environment and `.env`; every name is documented in `.env.example`."""

import os
import sys
import tempfile
from collections.abc import MutableMapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from contract.workers import QueueName

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)
"""What numeric libraries read, once, when they are imported."""


class WorkerSettings(BaseSettings):
    """All settings of a worker. It knows no database and no storage keys."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    redis_url: str
    api_url: str
    worker_api_key: SecretStr = Field(min_length=8)
    worker_queue: QueueName = "cpu"
    worker_work_dir: Path | None = None
    worker_threads: int = Field(default=1, ge=1, le=1024)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "pretty"] = "auto"

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: str) -> str:
        if urlsplit(url).scheme not in {"redis", "rediss", "unix"}:
            raise ValueError("must be a Redis URL such as redis://localhost:6379/0")
        return url

    @field_validator("api_url")
    @classmethod
    def _check_api_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
            raise ValueError("must be the API's address such as https://api.example.org")
        return url.rstrip("/")

    @field_validator("worker_api_key")
    @classmethod
    def _check_key(cls, key: SecretStr) -> SecretStr:
        if not key.get_secret_value().isascii() or not key.get_secret_value().isprintable():
            raise ValueError("must hold printable ASCII characters only")
        return key

    @field_validator("worker_work_dir")
    @classmethod
    def _check_work_dir(cls, folder: Path | None) -> Path | None:
        if folder is not None and folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
            raise ValueError("must be a folder this user may write to")
        if folder is not None and folder.exists() and not folder.is_dir():
            raise ValueError("must be a folder, not a file")
        return folder

    @property
    def work_dir(self) -> Path:
        """Where private work folders are made."""
        return self.worker_work_dir or Path(tempfile.gettempdir())


def set_thread_limits(threads: int, environment: MutableMapping[str, str]) -> None:
    """Limit the numeric libraries; must run before any of them is imported."""
    for variable in THREAD_VARIABLES:
        environment[variable] = str(threads)


def describe_settings_error(error: ValidationError) -> str:
    """One sentence for each missing or malformed setting, without its value."""
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        name = "_".join(str(part) for part in item["loc"]).upper()
        if item["type"] == "missing":
            lines.append(f"{name} is not set; see .env.example.")
        else:
            lines.append(f"{name}: {item['msg'].removeprefix('Value error, ')}.")
    return "\n".join(lines)


def load_settings() -> WorkerSettings:
    """The worker's settings; stops the process with a sentence when one is wrong."""
    try:
        # The pydantic plugin cannot know that the environment supplies the arguments.
        return WorkerSettings()
    except ValidationError as error:
        sys.exit(f"Settings are not usable:\n{describe_settings_error(error)}")
