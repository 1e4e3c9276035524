"""The API process: `uvicorn app.main:app`. Wiring only."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline

from app import __version__, health
from app.accounts.authenticator import Authenticator
from app.accounts.keys_router import router as keys_router
from app.accounts.users_router import router as users_router
from app.artifacts.router import router as files_router
from app.audit.router import router as audit_router
from app.catalog.known import KnownModels
from app.catalog.router import router as catalog_router
from app.config import Settings, get_settings
from app.db.session import Database
from app.db.signals import Signals
from app.jobs.creation import JobWriter
from app.jobs.poll import JobReader
from app.jobs.router import router as jobs_router
from app.jobs.shortcut import JobShortcuts
from app.jobs.submission import Submission
from app.jobs.submission_router import router as submission_router
from app.limits.documentation import document_limits
from app.limits.limiter import Limiter
from app.limits.middleware import RateLimitMiddleware
from app.logs import configure_logging, get_logger
from app.notifications.documentation import document_webhooks
from app.notifications.router import preferences_router
from app.notifications.router import router as webhooks_router
from app.notifications.urls import UrlPolicy
from app.queueing.rq_queue import WorkerCommands
from app.sessions.router import router as auth_router
from app.sessions.service import Sessions
from app.storage.base import StorageUnavailableError
from app.storage.minio_store import MinioStore
from app.usage.router import router as usage_router
from app.usage.service import UsageLimits
from app.videos.errors import TooManyUploadsError
from app.videos.router import MAX_UPLOADS
from app.videos.router import router as videos_router
from app.videos.router import status_router as job_status_router
from app.web.links import document_links
from app.web.middleware import MAX_JSON_DEPTH, BodyLimitMiddleware, RequestContextMiddleware
from app.web.problems import document_problems, install_problem_handlers
from app.web.security_headers import SecurityHeadersMiddleware
from app.web.shutdown import stopping_event
from app.web.streams import streamed_paths
from app.web.watchers import Watchers
from app.worker_api.router import router as worker_router
from app.workers.api_pulse import api_pulse

log = get_logger(__name__)

API_PREFIX = "/api/v1"
WORKER_PREFIX = "/worker/v1"

_HEALTH = ("/livez", "/readyz", "/health")
_UNLIMITED = (*_HEALTH, *(API_PREFIX + path for path in _HEALTH), WORKER_PREFIX)
"""Beginnings of the paths that nobody is kept from: watching over the service, and reporting."""

_DESCRIPTION = """
Generative 3D and video models as jobs, on your own GPU machines.

1. `POST /api/v1/jobs/upload-ticket`, then PUT your file to the `upload_url`.
2. `POST /api/v1/jobs/` with a model of the catalog and its parameters.
3. `GET /api/v1/jobs/{id}` until it has ended; previews appear while it runs.
4. `GET /api/v1/jobs/{id}/download`.

Send your key as `x-api-key`, or the access token of `POST /api/v1/auth/login` as
`Authorization: Bearer …`. Errors are `application/problem+json` (RFC 9457).
"""

_TAGS = [
    {"name": "files", "description": "Upload tickets, artifacts and downloads"},
    {"name": "jobs", "description": "Submit, follow, cancel and retry"},
    {
        "name": "videos",
        "description": "Upload and follow videos as the systems before this one had it",
    },
    {"name": "catalog", "description": "The models that can be asked for"},
    {"name": "auth", "description": "Log in and out, change your password (docs/accounts.md)"},
    {"name": "users", "description": "The people of your organisation, for its admins"},
    {"name": "keys", "description": "API keys: create, rotate, revoke"},
    {"name": "usage", "description": "What you use, and may use (docs/limits.md)"},
    {"name": "notifications", "description": "Webhooks, callbacks and e-mail about your jobs"},
    {"name": "audit", "description": "Who did what, for admins"},
    {"name": "worker", "description": "For GPU machines, with a worker key (docs/contract.md)"},
    {"name": "health", "description": "Liveness and readiness"},
]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    signals = Signals(settings.database_dsn)
    database = Database(settings.database_url, signals)
    store = MinioStore(settings)
    app.state.database = database
    app.state.store = store
    app.state.job_reader = reader = JobReader(settings.database_dsn, database, store, settings)
    app.state.job_writer = writer = JobWriter(
        settings.database_dsn,
        signals,
        settings.worker_live_seconds,
        settings.max_queued_jobs_per_user,
    )
    app.state.usage_limits = usage = UsageLimits(database, settings)
    app.state.submission = Submission(
        database, store, KnownModels(database), writer, usage=usage, callbacks=UrlPolicy(settings)
    )
    app.state.worker_commands = WorkerCommands(settings.redis_url)
    app.state.watchers = Watchers()
    app.state.limiter = limiter = Limiter(settings)
    app.state.uploads = Watchers(MAX_UPLOADS, TooManyUploadsError)
    app.state.stopping = stopping_event()
    app.state.authenticator = authenticator = Authenticator(database, settings)
    app.state.sessions = Sessions(database, settings)
    await signals.start()
    await reader.start()
    await writer.start()
    try:
        await store.ensure_bucket()
    except StorageUnavailableError as error:
        # Readiness says so until it is there; everything that needs no storage works.
        log.warning("storage is unavailable", error=str(error))
    try:
        async with (
            limiter.running(),
            api_pulse(database, settings),
            authenticator.key_uses.written(),
        ):
            yield
    finally:
        await signals.stop()
        await app.state.worker_commands.close()
        await store.close()
        await reader.close()
        await writer.close()
        await database.close()


def create_app(settings: Settings | None = None) -> FastAPI:
    """The API with everything wired; nothing is connected before it starts."""
    settings = settings or get_settings()
    configure_logging(settings, "api")
    # Asked once: FastAPI would ask with every request whether OpenTelemetry has been set up.
    traced = any(name.startswith("OTEL_") for name in os.environ)
    app = FastAPIOffline(
        title="Pipeline 3D",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=_lifespan,
        openapi_tags=_TAGS,
        redirect_slashes=False,
        license_info={"name": "MIT", "identifier": "MIT"},
        telemetry={"tracing": traced, "metrics": traced, "logs": traced},
    )
    app.state.settings = settings
    app.state.readiness_lock = asyncio.Lock()
    install_problem_handlers(app)
    # The last one added is the outermost.
    app.add_middleware(JobShortcuts, prefix=API_PREFIX)
    app.add_middleware(
        BodyLimitMiddleware, max_bytes=settings.max_body_bytes, max_depth=MAX_JSON_DEPTH
    )
    app.add_middleware(
        RateLimitMiddleware,
        trusted_proxies=settings.trusted_proxies,
        unlimited=_UNLIMITED,
    )
    if settings.backend_cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.backend_cors_origins,
            allow_credentials=True,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=[
                "x-api-key",
                "authorization",
                "content-type",
                "idempotency-key",
                "x-idempotency-key",
                "if-none-match",
                "prefer",
                "last-event-id",
                "x-request-id",
                "traceparent",
            ],
            expose_headers=[
                "etag",
                "location",
                "idempotency-replayed",
                "preference-applied",
                "ratelimit",
                "ratelimit-policy",
                "retry-after",
                "x-request-id",
                "x-response-time-ms",
            ],
        )
    app.add_middleware(RequestContextMiddleware)
    app.add_middleware(SecurityHeadersMiddleware, trusted_proxies=settings.trusted_proxies)
    for prefix in ("", API_PREFIX):
        app.include_router(health.router, prefix=prefix, include_in_schema=not prefix)
    app.include_router(files_router, prefix=API_PREFIX)
    app.include_router(submission_router, prefix=API_PREFIX)
    app.include_router(jobs_router, prefix=API_PREFIX)
    app.include_router(videos_router, prefix=API_PREFIX)
    app.include_router(job_status_router, prefix=API_PREFIX)
    app.include_router(catalog_router, prefix=API_PREFIX)
    for router in (auth_router, users_router, keys_router, usage_router, audit_router):
        app.include_router(router, prefix=API_PREFIX)
    app.include_router(webhooks_router, prefix=API_PREFIX)
    app.include_router(preferences_router, prefix=API_PREFIX)
    app.include_router(worker_router, prefix=WORKER_PREFIX)
    document_problems(app)
    document_limits(app, _UNLIMITED)
    document_links(app)
    document_webhooks(app)
    app.state.streamed_paths = streamed_paths(app)
    return app


def __getattr__(name: str) -> FastAPI:
    """Make `app` when a server asks for it, so that importing this module needs no settings."""
    if name == "app":
        globals()["app"] = created = create_app()
        return created
    raise AttributeError(name)
