"""Settings from the environment and `.env`; every name is documented in `.env.example`."""

import json
import sys
from email.policy import SMTP as SMTP_POLICY
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PLACEHOLDER = "change-me"
"""The value of secrets in `.env.example`; refused outside development."""

MAX_ACTIVE_JOBS = 1000
"""The most active jobs that one user may be allowed: looking for a free place tries each."""

MAX_QUOTA = 2**63 - 1
"""What a column of Postgres holds."""

_Quota = Annotated[int, Field(ge=0, le=MAX_QUOTA)]


class Environment(StrEnum):
    """Where the process runs. Anything but development refuses placeholder secrets."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


def _empty_as_none(value: object) -> object:
    return None if value == "" else value


class Settings(BaseSettings):
    """All settings of the orchestrator's processes."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    environment: Environment = Environment.PRODUCTION
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "pretty"] = "auto"

    database_url: str
    redis_url: str

    minio_endpoint: str
    minio_public_endpoint: Annotated[str | None, BeforeValidator(_empty_as_none)] = None
    minio_access_key: str = Field(min_length=3)
    minio_secret_key: SecretStr = Field(min_length=8)
    minio_bucket: str = Field(default="pipeline3d", pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    minio_region: str = "us-east-1"
    minio_secure: Annotated[bool | None, BeforeValidator(_empty_as_none)] = None

    secret_key: SecretStr = Field(min_length=8)
    first_superuser_username: str = Field(default="admin", min_length=1, max_length=100)
    first_superuser_password: SecretStr = Field(min_length=8)
    first_superuser_api_key: SecretStr = Field(min_length=8)
    worker_api_key: SecretStr = Field(min_length=8)

    backend_cors_origins: Annotated[list[str], NoDecode] = []
    trusted_proxies: int = Field(default=0, ge=0, le=10)
    registration_open: bool = False
    viewers_may_download: bool = True
    access_token_seconds: int = Field(default=3600, ge=10, le=86400)
    refresh_token_seconds: int = Field(default=7 * 86400, ge=60, le=366 * 86400)
    login_max_failures: int = Field(default=5, ge=1, le=1000)
    login_max_failures_per_address: int = Field(default=50, ge=1, le=1_000_000)
    login_lock_seconds: int = Field(default=900, ge=1, le=86400)
    max_body_bytes: int = Field(default=1 << 20, ge=1024, le=1 << 30)
    upload_ticket_seconds: int = Field(default=900, ge=1, le=7 * 86400)
    upload_keep_seconds: int = Field(default=86400, ge=1)
    max_upload_bytes: int = Field(default=512 * 2**20, ge=1)
    max_artifact_bytes: int = Field(default=16 * 2**30, ge=1)
    download_url_seconds: int = Field(default=3600, ge=1, le=7 * 86400)

    # Of all of these 0 is no limit.
    rate_limit_requests_per_user: int = Field(default=300, ge=0)
    rate_limit_requests_per_key: int = Field(default=300, ge=0)
    rate_limit_requests_per_address: int = Field(default=300, ge=0)
    rate_limit_downloads_per_user: int = Field(default=10, ge=0)
    rate_limit_downloads_per_key: int = Field(default=10, ge=0)
    rate_limit_creates_per_user: int = Field(default=60, ge=0)
    rate_limit_creates_per_key: int = Field(default=60, ge=0)
    rate_limit_redis_seconds: float = Field(default=0.1, gt=0, le=10)

    # Of these, too, but for the active jobs of a user.
    max_active_jobs_per_organisation: _Quota = 0
    max_queued_jobs_per_user: _Quota = 1000
    max_queued_jobs_per_organisation: _Quota = 0
    max_storage_bytes_per_user: _Quota = 0
    max_storage_bytes_per_organisation: _Quota = 0
    max_gpu_seconds_per_user: _Quota = 0
    max_gpu_seconds_per_organisation: _Quota = 0
    max_active_jobs_per_user: int = Field(default=5, ge=1, le=MAX_ACTIVE_JOBS)
    lease_seconds: float = Field(default=60, gt=0)
    heartbeat_seconds: float = Field(default=10, gt=0)
    retry_base_seconds: float = Field(default=30, ge=0)
    retry_max_seconds: float = Field(default=300, ge=0)
    dispatch_interval_seconds: float = Field(default=1, gt=0)
    worker_live_seconds: float = Field(default=75, gt=0)

    webhook_allow_http: bool = False
    webhook_ports: Annotated[list[int], NoDecode] = [80, 443]
    webhook_allowed_networks: Annotated[list[IPv4Network | IPv6Network], NoDecode] = []
    webhook_disable_after_days: float = Field(default=5, gt=0)
    delivery_keep_days: float = Field(default=30, gt=0)
    smtp_host: Annotated[str | None, BeforeValidator(_empty_as_none)] = None
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: Annotated[str | None, BeforeValidator(_empty_as_none)] = None
    smtp_password: Annotated[SecretStr | None, BeforeValidator(_empty_as_none)] = None
    email_from: Annotated[str | None, BeforeValidator(_empty_as_none)] = None
    public_url: str = "http://localhost:8000"

    @field_validator("database_url")
    @classmethod
    def _use_asyncpg(cls, url: str) -> str:
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in {"postgres", "postgresql", "postgresql+asyncpg"}:
            raise ValueError(
                "must be a PostgreSQL URL such as postgresql+asyncpg://user:password@host:5432/name"
            )
        # libpq's name for it, which people know; the driver's is `ssl`.
        return f"postgresql+asyncpg://{rest.replace('sslmode=', 'ssl=')}"

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: str) -> str:
        if urlsplit(url).scheme not in {"redis", "rediss", "unix"}:
            raise ValueError("must be a Redis URL such as redis://localhost:6379/0")
        return url

    @field_validator("minio_endpoint", "minio_public_endpoint")
    @classmethod
    def _check_endpoint(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if "://" not in url:
            url = f"http://{url}"
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
            raise ValueError("must be scheme://host:port without a path, such as http://host:9000")
        return f"{parts.scheme}://{parts.netloc}"

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
            raise ValueError("must be the address of this site, such as https://3d.example.org")
        return url.rstrip("/")

    @field_validator("email_from")
    @classmethod
    def _check_sender(cls, sender: str | None) -> str | None:
        if sender is not None:
            header = SMTP_POLICY.header_factory("From", sender)
            if header.defects or len(header.addresses) != 1 or not header.addresses[0].domain:
                raise ValueError("must be one address, such as Pipeline 3D <3d@example.org>")
        return sender

    @field_validator(
        "backend_cors_origins", "webhook_ports", "webhook_allowed_networks", mode="before"
    )
    @classmethod
    def _split_list(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        text = value.strip()
        if text.startswith("["):
            return json.loads(text)
        return [item.strip() for item in text.split(",") if item.strip()]

    @field_validator("backend_cors_origins")
    @classmethod
    def _refuse_any_origin(cls, origins: list[str]) -> list[str]:
        # Browsers send origins without a slash at the end.
        origins = [origin.strip().rstrip("/") for origin in origins]
        if "*" in origins:
            raise ValueError("must list origins one by one; * would let any site use credentials")
        return origins

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.heartbeat_seconds * 2 > self.lease_seconds:
            raise ValueError("HEARTBEAT_SECONDS must be at most half of LEASE_SECONDS")
        if self.first_superuser_api_key == self.worker_api_key:
            raise ValueError("FIRST_SUPERUSER_API_KEY and WORKER_API_KEY must differ")
        if self.smtp_host and not self.email_from:
            raise ValueError("SMTP_HOST is set, so EMAIL_FROM must be, too")
        if self.environment is not Environment.DEVELOPMENT:
            secrets = {
                "SECRET_KEY": self.secret_key,
                "FIRST_SUPERUSER_PASSWORD": self.first_superuser_password,
                "FIRST_SUPERUSER_API_KEY": self.first_superuser_api_key,
                "WORKER_API_KEY": self.worker_api_key,
                "MINIO_SECRET_KEY": self.minio_secret_key,
            }
            weak = [n for n, s in secrets.items() if s.get_secret_value() == PLACEHOLDER]
            if weak:
                raise ValueError(f"{', '.join(weak)} still has the value of .env.example")
            minimum = 32
            if len(self.secret_key.get_secret_value()) < minimum:
                raise ValueError(f"SECRET_KEY must have at least {minimum} characters")
        return self

    @property
    def database_dsn(self) -> str:
        """`DATABASE_URL` as asyncpg itself takes it, without SQLAlchemy."""
        return self.database_url.replace("+asyncpg", "", 1).replace("ssl=", "sslmode=")

    @property
    def storage_secure(self) -> bool:
        """Whether the storage endpoint is spoken to by TLS."""
        if self.minio_secure is not None:
            return self.minio_secure
        return self.minio_endpoint.startswith("https://")


def describe_settings_error(error: ValidationError) -> str:
    """One sentence for each missing or malformed setting, without its value."""
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        name = "_".join(str(part) for part in item["loc"]).upper()
        if item["type"] == "missing":
            lines.append(f"{name} is not set; see .env.example.")
        else:
            reason = item["msg"].removeprefix("Value error, ")
            lines.append(f"{name}: {reason}." if name else f"{reason}.")
    return "\n".join(lines)


@lru_cache
def get_settings() -> Settings:
    """The process's settings; stops the process with a sentence when one is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        sys.exit(f"Settings are not usable:\n{describe_settings_error(error)}")
