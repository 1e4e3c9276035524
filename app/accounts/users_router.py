"""Routes of users: who is in the organisation, for its admins."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, status

from app.accounts import users
from app.accounts.dependencies import CurrentPrincipal
from app.accounts.errors import (
    AccountExistsError,
    ForbiddenError,
    LastAdminError,
    NotAuthenticatedError,
    UserNotFoundError,
)
from app.accounts.passwords import hash_password, random_password
from app.accounts.roles import Permission
from app.accounts.schemas import (
    NewUserOut,
    PageQuery,
    UserChangesIn,
    UserIn,
    UserOut,
    UserPage,
)
from app.audit.dependencies import CurrentActor
from app.db.session import DatabaseDependency, SessionDependency
from app.errors import InvalidRequestError
from app.web.problems import problem_responses
from app.web.queries import decode_cursor, encode_cursor

router = APIRouter(
    prefix="/users",
    tags=["users"],
    responses=problem_responses(NotAuthenticatedError, ForbiddenError, InvalidRequestError),
)


@router.get("", include_in_schema=False)
@router.get("/", summary="List the people of your organisation")
async def list_users(
    principal: CurrentPrincipal,
    session: SessionDependency,
    page: Annotated[PageQuery, Query()],
) -> UserPage:
    """Everybody of your organisation, also those who are deactivated."""
    before = decode_cursor(page.cursor)
    found = await users.list_users(session, principal, before=before, limit=page.limit + 1)
    shown = found[: page.limit]
    return UserPage(
        items=[UserOut.of(user) for user in shown],
        next_cursor=encode_cursor(shown[-1].id) if len(found) > len(shown) else None,
    )


@router.post("", include_in_schema=False, status_code=status.HTTP_201_CREATED)
@router.post(
    "/",
    status_code=status.HTTP_201_CREATED,
    summary="Create a colleague",
    responses=problem_responses(AccountExistsError),
)
async def create_user(
    body: UserIn, principal: CurrentPrincipal, actor: CurrentActor, database: DatabaseDependency
) -> NewUserOut:
    """Create a user of your organisation, who can log in at once."""
    principal.require(Permission.MANAGE_USERS)
    made = None if body.password else random_password()
    password = made or (body.password.get_secret_value() if body.password else "")
    password_hash = await hash_password(password)
    async with database.transaction() as session:
        user = await users.create_member(
            session,
            actor,
            organisation_id=principal.organisation_id,
            username=body.username,
            password_hash=password_hash,
            role=body.role,
            email=body.email,
        )
    return NewUserOut(**UserOut.of(user).model_dump(), password=made)


@router.get(
    "/{user_id}",
    summary="Get a person of your organisation",
    responses=problem_responses(UserNotFoundError),
)
async def get_user(
    user_id: UUID, principal: CurrentPrincipal, session: SessionDependency
) -> UserOut:
    """One person of your organisation."""
    return UserOut.of(await users.get_user(session, principal, user_id))


@router.patch(
    "/{user_id}",
    summary="Change a person's role, state, e-mail address or password",
    responses=problem_responses(UserNotFoundError, LastAdminError, AccountExistsError),
)
async def change_user(
    user_id: UUID,
    body: UserChangesIn,
    principal: CurrentPrincipal,
    actor: CurrentActor,
    database: DatabaseDependency,
) -> UserOut:
    """Change a person of your organisation; it takes effect at once.

    The last active admin can be neither demoted nor deactivated.
    """
    async with database.transaction() as session:
        await users.get_user(session, principal, user_id)
    password_hash = None
    if body.password:
        if user_id == principal.user_id:
            raise ForbiddenError(
                "Change your own password with `POST /api/v1/auth/change-password`, "
                "which asks for the current one."
            )
        password_hash = await hash_password(body.password.get_secret_value())
    async with database.transaction() as session:
        user = await users.get_user(session, principal, user_id)
        changes = users.Changes(body.role, body.is_active, body.email, password_hash)
        return UserOut.of(await users.change_user(session, actor, user, changes))
