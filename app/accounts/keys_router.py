"""Routes of API keys."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, status

from app.accounts import key_management
from app.accounts.dependencies import CurrentPrincipal
from app.accounts.errors import (
    ForbiddenError,
    KeyNotFoundError,
    KeyStateError,
    NotAuthenticatedError,
    TooManyKeysError,
)
from app.accounts.key_management import KeyRequest
from app.accounts.schemas import KeyIn, KeyOut, KeyPage, KeyQuery, NewKeyOut, RotationIn
from app.audit.dependencies import CurrentActor
from app.db.session import SessionDependency
from app.errors import InvalidRequestError
from app.web.dependencies import SettingsDependency
from app.web.problems import problem_responses
from app.web.queries import decode_cursor, encode_cursor

router = APIRouter(
    prefix="/keys",
    tags=["keys"],
    responses=problem_responses(NotAuthenticatedError, ForbiddenError, InvalidRequestError),
)


@router.get("", include_in_schema=False)
@router.get("/", summary="List API keys")
async def list_keys(
    principal: CurrentPrincipal,
    session: SessionDependency,
    query: Annotated[KeyQuery, Query()],
) -> KeyPage:
    """Your keys, or with `everybody` those of your organisation; also those that are over."""
    found = await key_management.list_keys(
        session,
        principal,
        everybody=query.everybody,
        before=decode_cursor(query.cursor),
        limit=query.limit + 1,
    )
    shown = found[: query.limit]
    return KeyPage(
        items=[KeyOut.of(owned) for owned in shown],
        next_cursor=encode_cursor(shown[-1].key.id) if len(found) > len(shown) else None,
    )


@router.post("", include_in_schema=False, status_code=status.HTTP_201_CREATED)
@router.post(
    "/",
    status_code=status.HTTP_201_CREATED,
    summary="Create an API key",
    responses=problem_responses(TooManyKeysError),
)
async def create_key(
    body: KeyIn,
    principal: CurrentPrincipal,
    actor: CurrentActor,
    session: SessionDependency,
    settings: SettingsDependency,
) -> NewKeyOut:
    """Make a key for yourself. It is shown this once: only a hash of it is kept.

    Keys of kind `worker` are for GPU machines, which work for every organisation; only admins of
    the organisation that runs the platform make them.
    """
    if body.kind == "worker" and body.scopes is not None:
        raise InvalidRequestError(
            "/scopes: a GPU machine's key has none",
            errors=[{"pointer": "/scopes", "detail": "a GPU machine's key has none"}],
        )
    wanted = KeyRequest(
        name=body.name,
        kind=body.kind,
        scopes=body.scopes,
        life=timedelta(days=body.expires_in_days) if body.expires_in_days else None,
    )
    owned, key = await key_management.create_own_key(
        session, principal, actor, wanted, secret_key=settings.secret_key.get_secret_value()
    )
    return NewKeyOut.shown(owned, key)


@router.post(
    "/{key_id}/rotate",
    status_code=status.HTTP_201_CREATED,
    summary="Replace an API key",
    responses=problem_responses(KeyNotFoundError, KeyStateError),
)
async def rotate_key(  # noqa: PLR0917
    key_id: UUID,
    body: RotationIn,
    principal: CurrentPrincipal,
    actor: CurrentActor,
    session: SessionDependency,
    settings: SettingsDependency,
) -> NewKeyOut:
    """Make a key like this one, which works on for `grace_seconds`, so that nothing stops."""
    owned = await key_management.find_managed_key(session, principal, key_id)
    key_management.require_rotatable(principal, owned)
    made, key = await key_management.rotate_key(
        session,
        actor,
        owned,
        secret_key=settings.secret_key.get_secret_value(),
        grace=timedelta(seconds=body.grace_seconds),
        organisation_id=principal.organisation_id,
    )
    return NewKeyOut.shown(made, key)


@router.delete(
    "/{key_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Revoke an API key",
    responses=problem_responses(KeyNotFoundError),
)
async def revoke_key(
    key_id: UUID, principal: CurrentPrincipal, actor: CurrentActor, session: SessionDependency
) -> None:
    """Refuse a key from now on, in all processes. It stays in the list."""
    owned = await key_management.find_managed_key(session, principal, key_id)
    await key_management.end_key(session, actor, owned, organisation_id=principal.organisation_id)
