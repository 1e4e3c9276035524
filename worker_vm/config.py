"""Settings from the environment and `.env`; every name is documented in `.env.example`."""

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from contract.workers import QueueName
from worker_vm.pipelines.registry import PLUGINS_SETTING, known_pipelines

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
    worker_preload: str = ""
    worker_pipelines: str = ""
    worker_drain_seconds: float = Field(default=1740, ge=0)
    worker_memory_budget_mib: int = Field(default=0, ge=0)
    worker_recycle_runs: int = Field(default=0, ge=0)
    worker_recycle_drift_mib: int = Field(default=4096, ge=1)
    gltf_validator: str = ""
    yolo_model_path: str = ""
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

    @field_validator("worker_pipelines")
    @classmethod
    def _check_pipelines(cls, text: str) -> str:
        known_pipelines({PLUGINS_SETTING: text})
        return text

    @field_validator("gltf_validator")
    @classmethod
    def _check_validator(cls, command: str) -> str:
        words = shlex.split(command)
        if words and shutil.which(words[0]) is None:
            raise ValueError(f"must begin with a program that is there, not {words[0]!r}")
        return command

    @property
    def preload(self) -> tuple[str, ...]:
        """Pipelines to load at the start."""
        return tuple(self.worker_preload.replace(",", " ").split())

    def host_environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """What pipeline hosts get: this process's environment and `.env`, and our settings."""
        limits = {name: str(self.worker_threads) for name in THREAD_VARIABLES}
        ours = {
            "WORKER_THREADS": self.worker_threads,
            "WORKER_MEMORY_BUDGET_MIB": self.worker_memory_budget_mib,
            "WORKER_RECYCLE_RUNS": self.worker_recycle_runs,
            "WORKER_RECYCLE_DRIFT_MIB": self.worker_recycle_drift_mib,
            PLUGINS_SETTING: self.worker_pipelines,
            "GLTF_VALIDATOR": self.gltf_validator,
            "YOLO_MODEL_PATH": self.yolo_model_path,
        }
        file = {name: value for name, value in dotenv_values(".env").items() if value is not None}
        return {**file, **inherited, **limits, **{name: str(ours[name]) for name in ours}}

    @property
    def work_dir(self) -> Path:
        """Where private work folders are made."""
        return self.worker_work_dir or Path(tempfile.gettempdir())


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
