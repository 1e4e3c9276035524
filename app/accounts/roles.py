"""What each role of an organisation may do, and which part of it a key's scope lets through."""

from enum import StrEnum


class Role(StrEnum):
    """A user's role in the organisation."""

    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"


class Permission(StrEnum):
    """One thing a principal may do."""

    CREATE_JOBS = "create_jobs"
    READ_OWN_JOBS = "read_own_jobs"
    READ_ALL_JOBS = "read_all_jobs"
    CONTROL_OWN_JOBS = "control_own_jobs"
    CONTROL_ALL_JOBS = "control_all_jobs"
    DOWNLOAD_FILES = "download_files"
    MANAGE_OWN_ACCOUNT = "manage_own_account"
    """The own password and keys."""
    MANAGE_OWN_WEBHOOKS = "manage_own_webhooks"
    MANAGE_ALL_WEBHOOKS = "manage_all_webhooks"
    MANAGE_USERS = "manage_users"
    """The people of the organisation and their keys."""
    MANAGE_WORKER_KEYS = "manage_worker_keys"
    """The keys of GPU machines, which work for every organisation."""
    READ_AUDIT = "read_audit"


class Scope(StrEnum):
    """What a key may be used for; a key with scopes may do no more than they and its role say."""

    READ = "read"
    CREATE = "create"
    CONTROL = "control"
    DOWNLOAD = "download"
    MANAGE = "manage"


PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.ADMIN: frozenset(Permission),
    Role.OPERATOR: frozenset(
        {
            Permission.CREATE_JOBS,
            Permission.READ_OWN_JOBS,
            Permission.CONTROL_OWN_JOBS,
            Permission.DOWNLOAD_FILES,
            Permission.MANAGE_OWN_ACCOUNT,
            Permission.MANAGE_OWN_WEBHOOKS,
        }
    ),
    Role.VIEWER: frozenset(
        {
            Permission.READ_OWN_JOBS,
            Permission.READ_ALL_JOBS,
            Permission.DOWNLOAD_FILES,
            Permission.MANAGE_OWN_ACCOUNT,
        }
    ),
}

SCOPES: dict[Permission, Scope] = {
    Permission.CREATE_JOBS: Scope.CREATE,
    Permission.READ_OWN_JOBS: Scope.READ,
    Permission.READ_ALL_JOBS: Scope.READ,
    Permission.CONTROL_OWN_JOBS: Scope.CONTROL,
    Permission.CONTROL_ALL_JOBS: Scope.CONTROL,
    Permission.DOWNLOAD_FILES: Scope.DOWNLOAD,
    Permission.MANAGE_OWN_ACCOUNT: Scope.MANAGE,
    Permission.MANAGE_OWN_WEBHOOKS: Scope.MANAGE,
    Permission.MANAGE_ALL_WEBHOOKS: Scope.MANAGE,
    Permission.MANAGE_USERS: Scope.MANAGE,
    Permission.MANAGE_WORKER_KEYS: Scope.MANAGE,
    Permission.READ_AUDIT: Scope.MANAGE,
}
"""The scope that a key with scopes needs for each permission."""


def withheld_from(
    role: Role, *, runs_platform: bool, viewers_may_download: bool
) -> frozenset[Permission]:
    """What a role does not include here, although it would elsewhere.

    Args:
        role: the role.
        runs_platform: whether the organisation is the one that runs the platform.
        viewers_may_download: the setting.
    """
    withheld = set()
    if not runs_platform:
        withheld.add(Permission.MANAGE_WORKER_KEYS)
    if role == Role.VIEWER and not viewers_may_download:
        withheld.add(Permission.DOWNLOAD_FILES)
    return frozenset(withheld)
