"""The principal: who a request comes from, and what they may do."""

from dataclasses import dataclass
from uuid import UUID

from app.accounts.errors import ForbiddenError
from app.accounts.roles import PERMISSIONS, Permission, Role


@dataclass(frozen=True)
class Principal:
    """An authenticated person; `key_id` is that of the key that was shown."""

    user_id: UUID
    organisation_id: UUID
    username: str
    role: Role
    key_id: UUID | None = None

    def may(self, permission: Permission) -> bool:
        """Whether the role includes a permission."""
        return permission in PERMISSIONS[self.role]

    def require(self, permission: Permission) -> None:
        """Raise `ForbiddenError` unless the role includes a permission."""
        if not self.may(permission):
            raise ForbiddenError(
                f"Your role ({self.role}) does not include {permission.replace('_', ' ')}. "
                "Ask an admin of your organisation."
            )


@dataclass(frozen=True)
class WorkerPrincipal:
    """An authenticated GPU machine. It may speak for attempts and for nothing else."""

    key_id: UUID
