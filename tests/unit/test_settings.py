"""Settings: each wrong one is named in a sentence, and no secret is printed."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.config import PLACEHOLDER, Settings, describe_settings_error, get_settings

ROOT = Path(__file__).parent.parent.parent
SECRET = "hunter2hunter2"
USABLE: dict[str, Any] = {
    "DATABASE_URL": "postgresql+asyncpg://user:password@localhost:5432/pipeline3d",
    "REDIS_URL": "redis://localhost:6379/0",
    "MINIO_ENDPOINT": "http://localhost:9000",
    "MINIO_ACCESS_KEY": "access",
    "MINIO_SECRET_KEY": SECRET + "-minio",
    "SECRET_KEY": SECRET + "-of-more-than-32-characters-in-all",
    "FIRST_SUPERUSER_PASSWORD": SECRET + "-password",
    "FIRST_SUPERUSER_API_KEY": SECRET + "-admin-key",
    "WORKER_API_KEY": SECRET + "-worker-key",
}


@pytest.fixture(autouse=True)
def _only_these(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.lower() in Settings.model_fields:
            monkeypatch.delenv(name)


def _settings(**changes: str | None) -> Settings:
    values = {name.lower(): value for name, value in {**USABLE, **changes}.items()}
    return Settings(
        _env_file=None, **{name: value for name, value in values.items() if value is not None}
    )


def _complaint(**changes: str | None) -> str:
    with pytest.raises(ValidationError) as caught:
        _settings(**changes)
    return describe_settings_error(caught.value)


@pytest.mark.parametrize("name", USABLE)
def test_missing(name: str) -> None:
    """A missing setting is named, with the file that explains it."""
    assert _complaint(**{name: None}) == f"{name} is not set; see .env.example."


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://user:hunter2hunter2@localhost/x"),
        ("DATABASE_URL", "localhost"),
        ("DATABASE_URL", ""),
        ("REDIS_URL", "http://:hunter2hunter2@localhost"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", ""),
        ("MINIO_ENDPOINT", "ftp://localhost"),
        ("MINIO_ENDPOINT", "http://"),
        ("MINIO_ENDPOINT", "http://localhost:9000/with/path"),
        ("MINIO_ENDPOINT", ""),
        ("MINIO_PUBLIC_ENDPOINT", "http://cdn.example.com/path"),
        ("MINIO_ACCESS_KEY", "ab"),
        ("MINIO_SECRET_KEY", "hunter2"),
        ("MINIO_BUCKET", "No_Bucket"),
        ("MINIO_SECURE", "perhaps"),
        ("SECRET_KEY", "hunter2"),
        ("FIRST_SUPERUSER_USERNAME", ""),
        ("FIRST_SUPERUSER_PASSWORD", "hunter2"),
        ("FIRST_SUPERUSER_API_KEY", "hunter2"),
        ("WORKER_API_KEY", "hunter2"),
        ("ENVIRONMENT", "staging"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("BACKEND_CORS_ORIGINS", "*"),
        ("BACKEND_CORS_ORIGINS", '["*"]'),
        ("BACKEND_CORS_ORIGINS", "[not json"),
        ("BACKEND_CORS_ORIGINS", "[1, 2]"),
        ("UPLOAD_TICKET_SECONDS", "0"),
        ("UPLOAD_TICKET_SECONDS", "soon"),
        ("DOWNLOAD_URL_SECONDS", "1000000"),
        ("MAX_ACTIVE_JOBS_PER_USER", "0"),
        ("MAX_STORAGE_BYTES_PER_USER", "-1"),
        ("MAX_STORAGE_BYTES_PER_ORGANISATION", str(2**63)),  # more than a column holds
        ("REGISTRATION_OPEN", "perhaps"),
        ("TRUSTED_PROXIES", "-1"),
        ("ACCESS_TOKEN_SECONDS", "0"),
        ("REFRESH_TOKEN_SECONDS", "0"),
        ("LOGIN_MAX_FAILURES", "0"),
        ("LOGIN_LOCK_SECONDS", "0"),
        ("LEASE_SECONDS", "-1"),
        ("RETRY_BASE_SECONDS", "-1"),
    ],
)
def test_malformed(name: str, value: str) -> None:
    """A malformed setting is named in one sentence that does not repeat its value."""
    complaint = _complaint(**{name: value})
    assert all(line.startswith(name) for line in complaint.splitlines()), complaint
    assert complaint.endswith(".")
    assert "hunter2" not in complaint
    assert "Value error" not in complaint


def test_every_wrong_setting_is_named_at_once() -> None:
    """Several wrong settings give several sentences, so that nobody fixes them one by one."""
    complaint = _complaint(REDIS_URL=None, SECRET_KEY="short", MINIO_ENDPOINT="ftp://x")
    assert [line.split(" ")[0].rstrip(":") for line in complaint.splitlines()] == [
        "REDIS_URL",
        "MINIO_ENDPOINT",
        "SECRET_KEY",
    ]


def test_heartbeat_must_fit_the_lease() -> None:
    """A heartbeat that is rarer than twice a lease would lose every attempt, so it is refused."""
    assert "HEARTBEAT_SECONDS" in _complaint(HEARTBEAT_SECONDS="40", LEASE_SECONDS="60")
    assert _settings(HEARTBEAT_SECONDS="30", LEASE_SECONDS="60").heartbeat_seconds == 30


@pytest.mark.parametrize(
    "name",
    [
        "SECRET_KEY",
        "FIRST_SUPERUSER_PASSWORD",
        "FIRST_SUPERUSER_API_KEY",
        "WORKER_API_KEY",
        "MINIO_SECRET_KEY",
    ],
)
def test_production_refuses_placeholders(name: str) -> None:
    """A secret of .env.example does for development and is refused in production by name."""
    assert _settings(**{name: PLACEHOLDER, "ENVIRONMENT": "development"})
    assert name in _complaint(**{name: PLACEHOLDER, "ENVIRONMENT": "production"})


def test_production_wants_a_long_secret() -> None:
    """In production SECRET_KEY has at least 32 characters."""
    complaint = _complaint(SECRET_KEY=SECRET, ENVIRONMENT="production")
    assert complaint == "SECRET_KEY must have at least 32 characters."
    assert _settings(ENVIRONMENT="production")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_database_url_schemes(scheme: str) -> None:
    """Every usual way to write a PostgreSQL URL ends at the async driver."""
    assert _settings(DATABASE_URL=f"{scheme}://u:p@h/d").database_url == (
        "postgresql+asyncpg://u:p@h/d"
    )


@pytest.mark.parametrize(
    ("endpoint", "secure", "url", "tls"),
    [
        ("localhost:9000", None, "http://localhost:9000", False),
        ("http://localhost:9000", None, "http://localhost:9000", False),
        ("http://localhost:9000/", None, "http://localhost:9000", False),
        ("https://s3.example.com", None, "https://s3.example.com", True),
        ("s3.example.com", "true", "http://s3.example.com", True),
        ("https://s3.example.com", "false", "https://s3.example.com", False),
        ("https://s3.example.com", "", "https://s3.example.com", True),
        ("http://[::1]:9000", None, "http://[::1]:9000", False),
    ],
)
def test_storage_endpoint(endpoint: str, secure: str | None, url: str, *, tls: bool) -> None:
    """The endpoint may have a scheme or none; MINIO_SECURE wins over the scheme."""
    settings = _settings(MINIO_ENDPOINT=endpoint, MINIO_SECURE=secure)
    assert settings.minio_endpoint == url
    assert settings.storage_secure == tls


def test_empty_public_endpoint_is_none() -> None:
    """MINIO_PUBLIC_ENDPOINT= in .env means that there is none."""
    assert _settings(MINIO_PUBLIC_ENDPOINT="").minio_public_endpoint is None


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", []),
        (" , ", []),
        ("http://localhost:3000", ["http://localhost:3000"]),
        ("http://a.example/, https://b.example ", ["http://a.example", "https://b.example"]),
        ('["http://a.example", "https://b.example"]', ["http://a.example", "https://b.example"]),
        ("[]", []),
        ('["http://a.example/"]', ["http://a.example"]),
    ],
)
def test_cors_origins(text: str, origins: list[str]) -> None:
    """Origins may be parted by commas or be a JSON list; a slash at the end does no harm."""
    assert _settings(BACKEND_CORS_ORIGINS=text).backend_cors_origins == origins


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("WEBHOOK_PORTS", "", []),
        ("WEBHOOK_PORTS", "443, 8443", [443, 8443]),
        ("WEBHOOK_PORTS", "[443]", [443]),
        ("WEBHOOK_ALLOWED_NETWORKS", "", []),
        ("WEBHOOK_ALLOWED_NETWORKS", "10.1.0.0/16,fd00::/8", ["10.1.0.0/16", "fd00::/8"]),
        ("SMTP_HOST", "", None),
        ("SMTP_PASSWORD", "", None),
        ("EMAIL_FROM", "Pipeline 3D <3d@example.org>", "Pipeline 3D <3d@example.org>"),
        ("PUBLIC_URL", "https://3d.example.org/", "https://3d.example.org"),
    ],
)
def test_notification_settings(name: str, text: str, value: Any) -> None:
    """Lists may be parted by commas; what is left empty is not there."""
    found = getattr(_settings(**{name: text}), name.lower())
    if name == "WEBHOOK_ALLOWED_NETWORKS":
        found = [str(network) for network in found]
    assert found == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WEBHOOK_PORTS", "https"),
        ("WEBHOOK_ALLOWED_NETWORKS", "10.1.0.1/16"),
        ("WEBHOOK_ALLOWED_NETWORKS", "everything"),
        ("WEBHOOK_DISABLE_AFTER_DAYS", "0"),
        ("SMTP_SECURITY", "ssl3"),
        ("SMTP_PORT", "0"),
        ("SMTP_HOST", "mail.example.org"),  # without EMAIL_FROM
        ("EMAIL_FROM", "nobody"),
        ("EMAIL_FROM", "a@example.org, b@example.org"),
        ("EMAIL_FROM", "a@example.org\r\nBcc: b@example.org"),
        ("PUBLIC_URL", "3d.example.org"),
        ("PUBLIC_URL", "https://3d.example.org/?x=1"),
    ],
)
def test_wrong_notification_settings(name: str, value: str) -> None:
    """Each is refused by a sentence that names it."""
    assert name in _complaint(**{name: value})


def test_settings_do_not_show_secrets() -> None:
    """Printing the settings, as a log line might, shows no secret."""
    assert SECRET not in repr(_settings())


def test_example_names_every_setting() -> None:
    """`.env.example` documents every setting of the orchestrator."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    named = {line.partition("=")[0] for line in lines if "=" in line and not line.startswith("#")}
    assert {name.upper() for name in Settings.model_fields} <= named


def test_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings come from the environment, and from `.env` where that says nothing."""
    monkeypatch.chdir(tmp_path)
    for name, value in USABLE.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".env").write_text("MINIO_BUCKET=from-file\nREDIS_URL=redis://file\nOTHER=1\n")
    settings = Settings()
    assert settings.minio_bucket == "from-file"
    assert settings.redis_url == USABLE["REDIS_URL"]


def test_start_stops_with_a_sentence(tmp_path: Path) -> None:
    """A process whose settings are wrong ends with the sentences and without a traceback."""
    environment = {k: v for k, v in os.environ.items() if k.lower() not in Settings.model_fields}
    values = {**USABLE, "REDIS_URL": "http://:hunter2hunter2@localhost"}
    del values["DATABASE_URL"]
    done = subprocess.run(
        [sys.executable, "-c", "from app.config import get_settings; get_settings()"],
        cwd=tmp_path,
        env={**environment, **values, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "DATABASE_URL is not set" in done.stderr
    assert "REDIS_URL: must be a Redis URL" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


def test_settings_are_read_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process reads its settings once."""
    monkeypatch.chdir(tmp_path)
    for name, value in USABLE.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    try:
        assert get_settings() is get_settings()
    finally:
        get_settings.cache_clear()
