"""Every table of the application, for migrations and tests."""

from app.accounts import tables as accounts
from app.artifacts import tables as artifacts
from app.audit import tables as audit
from app.catalog import tables as catalog
from app.db.base import Base
from app.jobs import tables as jobs
from app.notifications import tables as notifications
from app.sessions import tables as sessions
from app.usage import tables as usage
from app.workers import tables as workers

metadata = Base.metadata

__all__ = [
    "accounts",
    "artifacts",
    "audit",
    "catalog",
    "jobs",
    "metadata",
    "notifications",
    "sessions",
    "usage",
    "workers",
]
