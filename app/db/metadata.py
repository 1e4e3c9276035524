"""Every table of the application, for migrations and tests."""

from app.accounts import tables as accounts
from app.artifacts import tables as artifacts
from app.catalog import tables as catalog
from app.db.base import Base
from app.jobs import tables as jobs
from app.notifications import tables as notifications
from app.workers import tables as workers

metadata = Base.metadata

__all__ = ["accounts", "artifacts", "catalog", "jobs", "metadata", "notifications", "workers"]
