"""rq-dashboard behind a login: `python -m app.dashboard`.

It is rq-dashboard's own command, with its options and RQ_DASHBOARD_* variables, and these
differences: it asks for a login, listens on this machine only unless told otherwise, reads tasks
as JSON everywhere (0.9 forgets it for workers, whose page fails while one is busy, and for
requeueing), and does not act on a request that another web site caused.
"""

import os
import sys
from typing import Any, Self

import rq_dashboard.web as dashboard
from flask import Response, request
from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from redis import Redis
from rq import Worker
from rq.job import Job, requeue_job
from rq.serializers import JSONSerializer
from rq.worker.base import BaseWorker
from rq_dashboard.cli import run

from app.config import PLACEHOLDER, Environment, describe_settings_error

ENVIRONMENT_PREFIX = "RQ_DASHBOARD"


class DashboardSettings(BaseSettings):
    """What the dashboard needs from the environment or `.env`."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    redis_url: str = Field(min_length=1)
    rq_dashboard_username: str = Field(min_length=1)
    rq_dashboard_password: str = Field(min_length=8)
    environment: Environment = Environment.PRODUCTION
    rq_dashboard_bind: str = "127.0.0.1"
    rq_dashboard_port: int = 9181

    @model_validator(mode="after")
    def _refuse_placeholder(self) -> Self:
        known = self.rq_dashboard_password == PLACEHOLDER
        if known and self.environment is not Environment.DEVELOPMENT:
            raise ValueError("RQ_DASHBOARD_PASSWORD still has the value of .env.example")
        return self


class JsonWorkers:
    """The one thing that the dashboard asks of RQ's `Worker`."""

    @staticmethod
    def all(connection: Redis) -> list[BaseWorker]:
        """Every worker, its task read as JSON."""
        return Worker.all(connection=connection, serializer=JSONSerializer)


class JsonJobs:
    """The one thing that the dashboard asks of RQ's `Job`."""

    @staticmethod
    def fetch(job_id: str, connection: Redis, **_options: Any) -> Job:
        """One task by its id, read as JSON."""
        return Job.fetch(job_id, connection=connection, serializer=JSONSerializer)


def requeue_json_job(job_id: str, connection: Redis) -> Job:
    """Queue a failed task again."""
    return requeue_job(job_id, connection=connection, serializer=JSONSerializer)


def refuse_cross_site() -> Response | None:
    """Browsers send the login along with whatever another site makes them ask for."""
    asks = request.method in {"GET", "HEAD"}
    # By endpoint: its path depends on --url-prefix.
    changes = not asks or request.endpoint == f"{dashboard.blueprint.name}.requeue_all"
    from_us = request.headers.get("Sec-Fetch-Site", "same-origin") == "same-origin"
    if changes and (asks or not from_us):
        return Response("Use the dashboard's own buttons.", 403)
    return None


def correct_dashboard() -> None:
    """Put right what the module's docstring names."""
    dashboard.Worker = JsonWorkers
    dashboard.Job = JsonJobs
    dashboard.requeue_job = requeue_json_job
    dashboard.blueprint.before_request(refuse_cross_site)


def main() -> None:
    """Start the dashboard; stops with a sentence when a setting is missing."""
    try:
        settings = DashboardSettings()
    except ValidationError as error:
        sys.exit(f"Settings are not usable:\n{describe_settings_error(error)}")
    correct_dashboard()
    os.environ.update(
        {
            "RQ_DASHBOARD_REDIS_URL": settings.redis_url,
            "RQ_DASHBOARD_USERNAME": settings.rq_dashboard_username,
            "RQ_DASHBOARD_PASSWORD": settings.rq_dashboard_password,
            "RQ_DASHBOARD_BIND": settings.rq_dashboard_bind,
            "RQ_DASHBOARD_PORT": str(settings.rq_dashboard_port),
            "RQ_DASHBOARD_JSON": "1",
        }
    )
    run(auto_envvar_prefix=ENVIRONMENT_PREFIX)


if __name__ == "__main__":
    main()
