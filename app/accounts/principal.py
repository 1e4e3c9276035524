"""The principal: who a request comes from, and what they may do."""

from dataclasses import dataclass
from uuid import UUID

from app.accounts.errors import ForbiddenError
from app.accounts.roles import PERMISSIONS, SCOPES, Permission, Role, Scope


@dataclass(frozen=True)
class Principal:
    """An authenticated person.

    Args:
        user_id: the person.
        organisation_id: theirs.
        username: theirs.
        role: theirs.
        withheld: what the role does not include here, see `withheld_from`.
        scopes: those of the key that was shown; None if nothing is kept from it.
        key_id: the key that was shown, if it was one.
        session_id: the session, if an access token was shown.
    """

    user_id: UUID
    organisation_id: UUID
    username: str
    role: Role
    withheld: frozenset[Permission] = frozenset()
    scopes: frozenset[Scope] | None = None
    key_id: UUID | None = None
    session_id: UUID | None = None

    def may(self, permission: Permission) -> bool:
        """Whether the role includes a permission, and the key's scopes let it through."""
        return (
            permission in PERMISSIONS[self.role]
            and permission not in self.withheld
            and self._lets_through(permission)
        )

    def _lets_through(self, permission: Permission) -> bool:
        return self.scopes is None or SCOPES[permission] in self.scopes

    def require(self, permission: Permission) -> None:
        """Raise `ForbiddenError` unless the principal has a permission."""
        if self.may(permission):
            return
        self.require_scope(permission)
        raise ForbiddenError(
            f"Your role ({self.role}) does not include {permission.replace('_', ' ')}. "
            "Ask an admin of your organisation."
        )

    def require_scope(self, permission: Permission) -> None:
        """Raise `ForbiddenError` if it is the key's scopes that keep a permission back."""
        if not self._lets_through(permission):
            raise ForbiddenError(
                f"This key's scopes do not include {permission.replace('_', ' ')}. "
                f"Use a key with the scope `{SCOPES[permission]}`."
            )


@dataclass(frozen=True)
class WorkerPrincipal:
    """An authenticated GPU machine. It may speak for attempts and for nothing else."""

    key_id: UUID
