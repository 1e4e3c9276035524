"""The second wall between organisations: Postgres shows a request its own organisation's rows only.

The first wall are the checks of the services. Where one of them is forgotten, row-level security
still holds: whatever a person's request reads or writes runs as a role that owns nothing, and
sees the rows of one organisation (docs/decisions/0024). Workers, the dispatcher and the search for
who is asking work for all organisations, and stay outside.

`POLICIES` is what migrations put into the database; a test compares both.
"""

from contextvars import ContextVar
from uuid import UUID

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session

TENANT_ROLE = "pipeline3d_tenant"

_OWN = "organisation_id = current_tenant()"
# By functions, each an index lookup for a row that was found: a subquery may be planned so that it
# reads all users or jobs of the organisation first.
_OF_JOB = "is_own_job(job_id)"
_OF_USER = "is_own_user(user_id)"

POLICIES: dict[str, str] = {
    "organisations": "id = current_tenant()",
    **dict.fromkeys(("audit_events", "deliveries", "jobs", "users", "webhooks"), _OWN),
    # The keys of GPU machines are nobody's own; who runs the platform makes them.
    "api_keys": _OF_USER
    + " OR kind = 'worker' AND EXISTS (SELECT FROM organisations WHERE runs_platform)",
    **dict.fromkeys(
        (
            "gpu_usage",
            "notification_preferences",
            "sessions",
            "upload_tickets",
            "user_queue",
            "user_usage",
        ),
        _OF_USER,
    ),
    "refresh_tokens": "EXISTS (SELECT FROM sessions WHERE sessions.id = refresh_tokens.session_id)",
    **dict.fromkeys(("artifacts", "attempts", "job_events"), _OF_JOB),
}
"""Which rows of a table are the tenant's; others are as if they were not there."""

APPEND_ONLY = frozenset({"audit_events"})
"""Tables in which a tenant may change or delete nothing."""

WRITTEN_WITH_THEIR_JOB = frozenset({"artifacts", "job_events"})
"""Their rows may be written by the statement that writes the job, which they cannot see then."""

SHARED = frozenset({"api_processes", "delivery_channels", "models", "workers"})
"""Tables of the whole platform, which tenants may read."""

COUNTERS = frozenset({"login_failures"})
"""Tables of the whole platform in which tenants count, under names that tell nothing."""

NARROW = f"""
SELECT set_config('role', '{TENANT_ROLE}', true), set_config('app.organisation', $1, true)
"""

_organisation: ContextVar[UUID | None] = ContextVar("organisation", default=None)


def enter_tenant(organisation_id: UUID) -> None:
    """Let every transaction that this task begins from now on see one organisation only."""
    _organisation.set(organisation_id)


def leave_tenant() -> None:
    """Let this task see what concerns all organisations again, until somebody is known to ask.

    A request may begin in a context that it has inherited, as one that is pipelined does.
    """
    _organisation.set(None)


class TenantSession(Session):
    """A session whose transactions are those of the tenant of the task, if it has one."""


@event.listens_for(TenantSession, "after_begin")
def _narrow(_: Session, __: object, connection: Connection) -> None:
    organisation_id = _organisation.get()
    if organisation_id is not None:
        connection.exec_driver_sql(NARROW, (str(organisation_id),))
