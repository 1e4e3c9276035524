"""What each role of an organisation may do."""

from enum import StrEnum


class Role(StrEnum):
    """A user's role in the organisation."""

    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"


class Permission(StrEnum):
    """One thing a principal may do with jobs."""

    CREATE_JOBS = "create_jobs"
    READ_OWN_JOBS = "read_own_jobs"
    READ_ALL_JOBS = "read_all_jobs"
    CONTROL_OWN_JOBS = "control_own_jobs"
    CONTROL_ALL_JOBS = "control_all_jobs"
    MANAGE_OWN_WEBHOOKS = "manage_own_webhooks"
    MANAGE_ALL_WEBHOOKS = "manage_all_webhooks"


PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.ADMIN: frozenset(Permission),
    Role.OPERATOR: frozenset(
        {
            Permission.CREATE_JOBS,
            Permission.READ_OWN_JOBS,
            Permission.CONTROL_OWN_JOBS,
            Permission.MANAGE_OWN_WEBHOOKS,
        }
    ),
    Role.VIEWER: frozenset({Permission.READ_OWN_JOBS, Permission.READ_ALL_JOBS}),
}
