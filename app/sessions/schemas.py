"""What the routes of sessions take and answer."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from app.accounts.names import Email, Label, Username
from app.accounts.passwords import NewPassword, Password
from app.accounts.principal import Principal
from app.accounts.roles import Permission, Role, Scope
from app.accounts.tables import Organisation, User
from contract.base import Text

_EXAMPLE_PASSWORD = "Correct-Horse-9"  # noqa: S105
_TOKENS: dict[str, Any] = {
    "access_token": "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJpc3Mi….q1w2…",
    "token_type": "Bearer",
    "expires_in": 3600,
    "refresh_token": "p3d_refresh_Jx3…",
    "refresh_expires_in": 604_800,
}


class RegistrationIn(BaseModel):
    """A person who wants an account, and an organisation of their own with it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"username": "ada", "email": "ada@example.org", "password": _EXAMPLE_PASSWORD}
            ]
        },
    )

    username: Username
    email: Email | None = None
    password: NewPassword
    organisation: Label | None = Field(
        default=None, description="the name of the new organisation; the user's where left out"
    )


class LoginIn(BaseModel):
    """Who wants to log in."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"username": "ada", "password": _EXAMPLE_PASSWORD}]},
    )

    username: Annotated[Text, StringConstraints(min_length=1, max_length=254)] = Field(
        description="user name or e-mail address"
    )
    password: Password


class RefreshIn(BaseModel):
    """A refresh token that was not used yet."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"refresh_token": "p3d_refresh_Jx3…"}]}
    )

    refresh_token: Annotated[SecretStr, Field(min_length=1, max_length=200)]


class TokensOut(BaseModel):
    """An access token, and what to get the next one with (RFC 6749, section 5.1)."""

    model_config = ConfigDict(json_schema_extra={"examples": [_TOKENS]})

    access_token: str = Field(description="goes into the header: `Authorization: Bearer …`")
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    expires_in: int = Field(description="seconds that the access token works")
    refresh_token: str = Field(description="good for one `POST /auth/refresh`")
    refresh_expires_in: int = Field(description="seconds that the refresh token works")


class PasswordChangeIn(BaseModel):
    """The own password, now and from now on."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"current_password": _EXAMPLE_PASSWORD, "new_password": "Battery-Staple-7"}
            ]
        },
    )

    current_password: Password
    new_password: NewPassword


class OrganisationOut(BaseModel):
    """A tenant."""

    id: UUID
    name: str


class MeOut(BaseModel):
    """Who is asking, and what they may do."""

    id: UUID
    username: str
    email: str | None
    role: Role
    organisation: OrganisationOut
    permissions: list[Permission] = Field(description="of the role, as far as the key's scopes go")
    scopes: list[Scope] | None = Field(description="of the key; null if it has none to narrow it")
    key_id: UUID | None = Field(description="the key that was shown")
    session_id: UUID | None = Field(description="the session whose access token was shown")

    @classmethod
    def of(cls, principal: Principal, user: User, organisation: Organisation) -> "MeOut":
        """The person that a principal stands for."""
        return cls(
            id=user.id,
            username=user.username,
            email=user.email,
            role=principal.role,
            organisation=OrganisationOut(id=organisation.id, name=organisation.name),
            permissions=[permission for permission in Permission if principal.may(permission)],
            scopes=None if principal.scopes is None else sorted(principal.scopes),
            key_id=principal.key_id,
            session_id=principal.session_id,
        )
