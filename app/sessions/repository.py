"""Queries of sessions."""

from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.tables import Organisation, User
from app.db.base import seconds
from app.sessions.tables import EndReason, LoginFailure, LoginSession, RefreshToken

_KEEP_SECONDS = 86400.0
_BATCH = 1000


def _is_live() -> ColumnElement[bool]:
    return and_(
        LoginSession.ended_at.is_(None), LoginSession.expires_at > func.now(), User.is_active
    )


async def find_live_session(
    session: AsyncSession, session_id: UUID, user_id: UUID
) -> tuple[User, Organisation] | None:
    """The user of a session with their organisation, unless it has ended or they are inactive."""
    row = (
        await session.execute(
            select(User, Organisation)
            .join(LoginSession, LoginSession.user_id == User.id)
            .join(Organisation, Organisation.id == User.organisation_id)
            .where(LoginSession.id == session_id, User.id == user_id, _is_live())
        )
    ).one_or_none()
    return (row[0], row[1]) if row else None


async def lock_live_session(
    session: AsyncSession, session_id: UUID
) -> tuple[LoginSession, User] | None:
    """A session that has not ended, with its user; neither can change meanwhile."""
    row = (
        await session.execute(
            select(LoginSession, User)
            .join(User, User.id == LoginSession.user_id)
            .where(LoginSession.id == session_id, _is_live())
            .with_for_update(of=LoginSession)
        )
    ).one_or_none()
    return (row[0], row[1]) if row else None


async def use_refresh_token(session: AsyncSession, token_hash: str) -> UUID | None:
    """Use a refresh token up: its session, or None if there is no such token that is unused.

    Of several who use it at the same time one is told the session.
    """
    return (
        await session.execute(
            update(RefreshToken)
            .where(RefreshToken.token_hash == token_hash, RefreshToken.used_at.is_(None))
            .values(used_at=func.now())
            .returning(RefreshToken.session_id)
            .execution_options(synchronize_session=False)
        )
    ).scalar_one_or_none()


async def session_of_token(session: AsyncSession, token_hash: str) -> UUID | None:
    """The session that a refresh token is or was of."""
    return (
        await session.execute(
            select(RefreshToken.session_id).where(RefreshToken.token_hash == token_hash)
        )
    ).scalar_one_or_none()


async def end_session(session: AsyncSession, session_id: UUID, reason: EndReason) -> bool:
    """End a session; returns whether it had not ended."""
    ended = await session.execute(
        update(LoginSession)
        .where(LoginSession.id == session_id, LoginSession.ended_at.is_(None))
        .values(ended_at=func.now(), end_reason=reason)
        .returning(LoginSession.id)
        .execution_options(synchronize_session=False)
    )
    return ended.first() is not None


async def end_sessions(
    session: AsyncSession, user_id: UUID, reason: EndReason, *, but: UUID | None = None
) -> int:
    """End all sessions of a user, perhaps but one; returns how many had not ended."""
    conditions = [LoginSession.user_id == user_id, LoginSession.ended_at.is_(None)]
    if but is not None:
        conditions.append(LoginSession.id != but)
    ended = await session.execute(
        update(LoginSession)
        .where(*conditions)
        .values(ended_at=func.now(), end_reason=reason)
        .returning(LoginSession.id)
        .execution_options(synchronize_session=False)
    )
    return len(ended.all())


async def delete_old(session: AsyncSession) -> int:
    """Delete some sessions that have been over for a day, and failed log-ins that don't count now.

    Until then a token that is used a second time is told from one that was made up.
    """
    old = (
        select(LoginSession.id)
        .where(LoginSession.expires_at < func.now() - seconds(_KEEP_SECONDS))
        .limit(_BATCH)
        .with_for_update(skip_locked=True)
    )
    forgotten = (
        select(LoginFailure.subject)
        .where(LoginFailure.expires_at < func.now())
        .limit(_BATCH)
        .with_for_update(skip_locked=True)
    )
    sessions = await session.execute(
        delete(LoginSession).where(LoginSession.id.in_(old)).returning(LoginSession.id)
    )
    failures = await session.execute(
        delete(LoginFailure)
        .where(LoginFailure.subject.in_(forgotten))
        .returning(LoginFailure.subject)
    )
    return len(sessions.all()) + len(failures.all())
