"""Routes of sessions: register, log in, stay logged in, log out, change the password."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, status

from app.accounts.dependencies import CurrentPrincipal
from app.accounts.errors import AccountExistsError, ForbiddenError, NotAuthenticatedError
from app.accounts.schemas import UserOut
from app.accounts.tables import Organisation, User
from app.audit.dependencies import CurrentActor, UnknownActor
from app.db.session import SessionDependency
from app.errors import InvalidRequestError, ServiceUnavailableError
from app.sessions.errors import (
    LoginLockedError,
    LoginRefusedError,
    NoSessionError,
    RefreshRefusedError,
    RegistrationClosedError,
    WrongPasswordError,
)
from app.sessions.schemas import (
    LoginIn,
    MeOut,
    PasswordChangeIn,
    RefreshIn,
    RegistrationIn,
    TokensOut,
)
from app.sessions.service import Sessions
from app.web.problems import problem_responses

router = APIRouter(prefix="/auth", tags=["auth"])

_OPEN_ERRORS = (InvalidRequestError, ServiceUnavailableError)
_OWN_ERRORS = (NotAuthenticatedError, ForbiddenError, InvalidRequestError)


async def _sessions(request: Request) -> Sessions:
    sessions: Sessions = request.app.state.sessions
    return sessions


SessionsDependency = Annotated[Sessions, Depends(_sessions)]


@router.post(
    "/register",
    status_code=status.HTTP_201_CREATED,
    summary="Make yourself an account",
    responses=problem_responses(
        *_OPEN_ERRORS, RegistrationClosedError, AccountExistsError, LoginLockedError
    ),
)
async def register(
    body: RegistrationIn, sessions: SessionsDependency, actor: UnknownActor
) -> UserOut:
    """Make an account and an organisation of your own, if this platform lets people do so.

    Those who are to join an organisation are made by its admins, see `POST /users/`.
    """
    return UserOut.of(await sessions.register(body, actor))


@router.post(
    "/login",
    summary="Log in",
    responses=problem_responses(*_OPEN_ERRORS, LoginRefusedError, LoginLockedError),
)
async def log_in(body: LoginIn, sessions: SessionsDependency, actor: UnknownActor) -> TokensOut:
    """Tokens for a user name, or e-mail address, and its password.

    After several wrong passwords a name is locked for a while, whether anybody has it or not, and
    so is an address that tries many names.
    """
    return await sessions.log_in(body.username, body.password.get_secret_value(), actor)


@router.post(
    "/refresh",
    summary="Get new tokens",
    responses=problem_responses(*_OPEN_ERRORS, RefreshRefusedError),
)
async def refresh(body: RefreshIn, sessions: SessionsDependency, actor: UnknownActor) -> TokensOut:
    """New tokens for a refresh token, which is used up by it.

    Showing one a second time ends the session: somebody must have stolen it.
    """
    return await sessions.refresh(body.refresh_token.get_secret_value(), actor)


@router.post(
    "/logout",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Log out",
    responses=problem_responses(*_OWN_ERRORS, NoSessionError),
)
async def log_out(
    principal: CurrentPrincipal,
    sessions: SessionsDependency,
    actor: CurrentActor,
    *,
    everywhere: Annotated[bool, Query(description="end all your sessions")] = False,
) -> None:
    """End the session; its tokens are refused from now on, in all processes."""
    await sessions.log_out(principal, actor, everywhere=everywhere)


@router.get(
    "/me", summary="Who you are, and what you may do", responses=problem_responses(*_OWN_ERRORS)
)
async def me(principal: CurrentPrincipal, session: SessionDependency) -> MeOut:
    """The person that your key or token speaks for, and the permissions it has."""
    user = await session.get_one(User, principal.user_id)
    organisation = await session.get_one(Organisation, principal.organisation_id)
    return MeOut.of(principal, user, organisation)


@router.post(
    "/change-password",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Change your password",
    responses=problem_responses(*_OWN_ERRORS, WrongPasswordError, LoginLockedError),
)
async def change_password(
    body: PasswordChangeIn,
    principal: CurrentPrincipal,
    sessions: SessionsDependency,
    actor: CurrentActor,
) -> None:
    """Change your password. All your other sessions end; your keys work on."""
    await sessions.change_password(
        principal,
        body.current_password.get_secret_value(),
        body.new_password.get_secret_value(),
        actor,
    )
