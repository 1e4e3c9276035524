"""What the routes of users and keys take and answer."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.accounts.key_management import OwnedKey
from app.accounts.names import Email, Label, Username
from app.accounts.passwords import NewPassword
from app.accounts.roles import Role, Scope
from app.accounts.tables import KeyKind, User
from app.web.queries import MAX_PAGE
from contract.base import UtcDatetime

_USER: dict[str, Any] = {
    "id": "01a1f86f-2f50-7c1d-9d1c-6a5b4c3d2e1f",
    "username": "ada",
    "email": "ada@example.org",
    "role": "operator",
    "is_active": True,
    "created_at": "2026-03-01T12:30:15.250000Z",
}
_KEY: dict[str, Any] = {
    "id": "01a1f870-0b1c-7d2e-8f3a-4b5c6d7e8f90",
    "kind": "user",
    "name": "laptop",
    "prefix": "p3d_user_3fA91kQz",
    "user_id": "01a1f86f-2f50-7c1d-9d1c-6a5b4c3d2e1f",
    "username": "ada",
    "scopes": ["create", "read"],
    "rotated_from": None,
    "created_at": "2026-03-01T12:30:15.250000Z",
    "last_used_at": "2026-03-02T08:00:00.000000Z",
    "expires_at": None,
    "revoked_at": None,
}


class PageQuery(BaseModel):
    """Which page of a list."""

    model_config = ConfigDict(extra="forbid")

    cursor: str | None = Field(default=None, max_length=64, description="of the page before")
    limit: int = Field(default=50, ge=1, le=MAX_PAGE)


class KeyQuery(PageQuery):
    """Which keys to list."""

    everybody: bool = Field(
        default=False, description="those of the whole organisation, for its admins"
    )


class UserIn(BaseModel):
    """A new colleague."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"username": "ada", "email": "ada@example.org", "role": "operator"}]
        },
    )

    username: Username
    email: Email | None = None
    role: Role = Role.OPERATOR
    password: NewPassword | None = Field(
        default=None, description="to begin with; where left out one is made and answered once"
    )


class UserChangesIn(BaseModel):
    """What to change; whatever is left out or null stays as it is."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"role": "viewer"}]})

    role: Role | None = None
    is_active: bool | None = Field(
        default=None, description="false logs them out and refuses their keys, at once"
    )
    email: Email | None = None
    password: NewPassword | None = Field(default=None, description="a new one; logs them out")


class UserOut(BaseModel):
    """A person of your organisation."""

    model_config = ConfigDict(json_schema_extra={"examples": [_USER]})

    id: UUID
    username: str
    email: str | None
    role: Role
    is_active: bool
    created_at: UtcDatetime

    @classmethod
    def of(cls, user: User) -> "UserOut":
        """The user of a row."""
        return cls(
            id=user.id,
            username=user.username,
            email=user.email,
            role=Role(user.role),
            is_active=user.is_active,
            created_at=user.created_at,
        )


class NewUserOut(UserOut):
    """A new user, and the password that was made for them."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_USER, "password": "mVq…-C4"}]})

    password: str | None = Field(description="shown only now; null if you chose it")


class UserPage(BaseModel):
    """Some people, those who came last first."""

    items: list[UserOut]
    next_cursor: str | None = Field(description="pass it as `cursor` for the page after")


Scopes = Annotated[frozenset[Scope], Field(min_length=1)]


class KeyIn(BaseModel):
    """A key that is wanted."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"name": "laptop", "scopes": ["create", "read"], "expires_in_days": 90}]
        },
    )

    name: Label = Field(description="what you call it")
    kind: KeyKind = Field(default=KeyKind.USER, description="`worker` is for a GPU machine")
    scopes: Scopes | None = Field(
        default=None, description="what it may be used for; left out: all that your role may"
    )
    expires_in_days: int | None = Field(default=None, ge=1, le=3660)


class RotationIn(BaseModel):
    """How to rotate a key."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}]})

    grace_seconds: int = Field(
        default=86400, ge=0, le=30 * 86400, description="how long the old key still works"
    )


class KeyOut(BaseModel):
    """A key, without what makes it one."""

    model_config = ConfigDict(json_schema_extra={"examples": [_KEY]})

    id: UUID
    kind: KeyKind
    name: str
    prefix: str = Field(description="how the key begins, to tell keys apart")
    user_id: UUID | None = Field(description="null for a GPU machine's key")
    username: str | None
    scopes: list[Scope] | None = Field(description="null: all that the role may")
    rotated_from: UUID | None = Field(description="the key that it replaces")
    created_at: UtcDatetime
    last_used_at: UtcDatetime | None = Field(description="to the minute")
    expires_at: UtcDatetime | None
    revoked_at: UtcDatetime | None

    @classmethod
    def of(cls, owned: OwnedKey) -> "KeyOut":
        """The key of a row."""
        return cls(**_key_fields(owned))


class NewKeyOut(KeyOut):
    """A new key, at the only time it is shown."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_KEY, "key": "p3d_user_3fA9…"}]})

    key: str = Field(description="goes into the header `x-api-key`; shown only now")

    @classmethod
    def shown(cls, owned: OwnedKey, key: str) -> "NewKeyOut":
        """A key that was made just now."""
        return cls(**_key_fields(owned), key=key)


def _key_fields(owned: OwnedKey) -> dict[str, Any]:
    key, user = owned.key, owned.user
    copied = set(KeyOut.model_fields) - {"username"}
    fields = {name: getattr(key, name) for name in copied}
    return {**fields, "username": user.username if user else None}


class KeyPage(BaseModel):
    """Some keys, newest first."""

    items: list[KeyOut]
    next_cursor: str | None = Field(description="pass it as `cursor` for the page after")
