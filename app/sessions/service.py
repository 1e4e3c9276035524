"""Logging in and out, staying logged in, changing the own password, registering."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import repository as accounts
from app.accounts.keys import hash_key
from app.accounts.passwords import hash_password, verify_password
from app.accounts.principal import Principal
from app.accounts.roles import Permission, Role
from app.accounts.service import add_user, create_organisation, forget_everywhere
from app.accounts.tables import User
from app.audit.actor import Actor
from app.audit.service import Action, record
from app.config import Settings
from app.db.session import Database
from app.errors import ServiceUnavailableError
from app.sessions import repository
from app.sessions.errors import (
    LoginRefusedError,
    NoSessionError,
    RefreshRefusedError,
    RegistrationClosedError,
    WrongPasswordError,
)
from app.sessions.schemas import RegistrationIn, TokensOut
from app.sessions.tables import EndReason, LoginSession, RefreshToken
from app.sessions.throttle import Charge, Throttle, login_account, own_account
from app.sessions.tokens import AccessTokens, new_refresh_token

_NOBODY = "unknown"


class Sessions:
    """Sessions of one process's callers.

    Passwords are checked between transactions: a hash takes its time, and holds no connection.

    Args:
        database: where sessions are.
        settings: the secret, how long tokens work, and how many wrong passwords are too many.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._secret_key = settings.secret_key.get_secret_value()
        self._refresh_life = timedelta(seconds=settings.refresh_token_seconds)
        self._tokens = AccessTokens(settings)
        self._throttle = Throttle(settings)

    async def register(self, request: RegistrationIn, actor: Actor) -> User:
        """Make an account for somebody, who becomes the admin of an organisation of their own.

        Raises:
            RegistrationClosedError: the setting says so.
            LoginLockedError: too many were made from this address.
            AccountExistsError: a name is taken.
        """
        if not self._settings.registration_open:
            raise RegistrationClosedError
        async with self._database.transaction() as session:
            charge = await self._throttle.charge(session, account=None, address=actor.address)
        charge.require_allowed()
        password_hash = await hash_password(request.password.get_secret_value())
        async with self._database.transaction() as session:
            organisation = await create_organisation(
                session, request.organisation or request.username
            )
            user = await add_user(
                session,
                organisation_id=organisation.id,
                username=request.username,
                password_hash=password_hash,
                role=Role.ADMIN,
                email=request.email,
            )
            record(
                session,
                actor.known_as(user.username, user.id),
                Action.USER_REGISTERED,
                organisation_id=organisation.id,
                target_id=user.id,
            )
            return user

    async def log_in(self, name: str, password: str, actor: Actor) -> TokensOut:
        """Begin a session, by user name or e-mail address.

        Whether the name, the password or the whole account is wrong can't be told from the answer,
        nor from the work that is done for it.

        Raises:
            LoginLockedError: too many wrong passwords for this name, or from this address.
            LoginRefusedError: name or password is wrong.
            ServiceUnavailableError: too many are logging in.
        """
        async with self._database.transaction() as session:
            charge = await self._throttle.charge(
                session, account=login_account(name), address=actor.address
            )
            user = await accounts.find_user_by_login(session, name)
        charge.require_allowed()
        active = user if user and user.is_active else None
        right, better_hash = await self._verify(
            charge, password, active.password_hash if active else None
        )
        if not right or active is None:
            # Not the name that was typed: people type passwords there, and this is kept for ever.
            await self._note_failure(
                actor.known_as(user.username if user else _NOBODY), user, charge
            )
            raise LoginRefusedError
        return await self._begin(active, better_hash, charge, actor)

    async def _begin(
        self, found: User, better_hash: str | None, charge: Charge, actor: Actor
    ) -> TokensOut:
        """Begin a session of somebody whose password was right."""
        async with self._database.transaction() as session:
            user = await accounts.lock_user(session, found.id)
            # Another password, or none, since it was looked at.
            if user is None or not user.is_active or user.password_hash != found.password_hash:
                raise LoginRefusedError
            user.password_hash = better_hash or user.password_hash
            await self._throttle.forgive(session, charge)
            begun = LoginSession(user_id=user.id, expires_at=self._refresh_expiry())
            session.add(begun)
            await session.flush()
            record(
                session,
                actor.known_as(user.username, user.id, begun.id),
                Action.LOGIN_SUCCEEDED,
                organisation_id=user.organisation_id,
                target_id=user.id,
            )
            return self._issue(session, begun)

    async def _verify(
        self, charge: Charge, password: str, password_hash: str | None
    ) -> tuple[bool, str | None]:
        try:
            return await verify_password(password, password_hash)
        except ServiceUnavailableError:
            async with self._database.transaction() as session:
                await self._throttle.give_back(session, charge)
            raise

    async def _note_failure(self, actor: Actor, user: User | None, charge: Charge) -> None:
        """Say that a password was wrong; no other transaction does, since nothing has happened."""
        organisation_id = user.organisation_id if user else None
        target_id = user.id if user else None
        actions = [Action.LOGIN_FAILED, *([Action.LOGIN_LOCKED] if charge.is_last else [])]
        async with self._database.transaction() as session:
            for action in actions:
                record(session, actor, action, organisation_id=organisation_id, target_id=target_id)

    def _refresh_expiry(self) -> datetime:
        return datetime.now(UTC) + self._refresh_life

    def _issue(self, session: AsyncSession, of: LoginSession) -> TokensOut:
        refresh_token = new_refresh_token()
        session.add(
            RefreshToken(token_hash=hash_key(refresh_token, self._secret_key), session_id=of.id)
        )
        return TokensOut(
            access_token=self._tokens.issue(of.user_id, of.id),
            expires_in=self._settings.access_token_seconds,
            refresh_token=refresh_token,
            refresh_expires_in=self._settings.refresh_token_seconds,
        )

    async def refresh(self, refresh_token: str, actor: Actor) -> TokensOut:
        """New tokens for a refresh token, which is used up by it.

        One that is shown a second time has been stolen, now or the first time: its session ends,
        with all that was refreshed from it (RFC 9700, section 4.14.2).

        Raises:
            RefreshRefusedError: it is unknown, used or expired, or the session has ended.
        """
        token_hash = hash_key(refresh_token, self._secret_key)
        async with self._database.transaction() as session:
            session_id = await repository.use_refresh_token(session, token_hash)
            if session_id is not None:
                found = await repository.lock_live_session(session, session_id)
                if found is not None:
                    found[0].expires_at = self._refresh_expiry()
                    return self._issue(session, found[0])
            else:
                await self._end_if_reused(session, token_hash, actor)
        raise RefreshRefusedError

    async def _end_if_reused(self, session: AsyncSession, token_hash: str, actor: Actor) -> None:
        session_id = await repository.session_of_token(session, token_hash)
        found = session_id and await repository.lock_live_session(session, session_id)
        if not found:
            return
        ended, user = found
        await repository.end_session(session, ended.id, EndReason.TOKEN_REUSED)
        forget_everywhere(session, ended.id)
        record(
            session,
            actor.known_as(user.username, user.id, ended.id),
            Action.TOKEN_REUSED,
            organisation_id=user.organisation_id,
            target_id=ended.id,
        )

    async def log_out(self, principal: Principal, actor: Actor, *, everywhere: bool) -> None:
        """End the principal's session, or all that they have.

        Raises:
            NoSessionError: an API key was shown, and not all sessions are meant.
        """
        if everywhere:
            principal.require(Permission.MANAGE_OWN_ACCOUNT)
        elif principal.session_id is None:
            raise NoSessionError
        async with self._database.transaction() as session:
            if everywhere:
                await repository.end_sessions(session, principal.user_id, EndReason.LOGOUT)
                forget_everywhere(session, principal.user_id)
            else:
                assert principal.session_id is not None
                await repository.end_session(session, principal.session_id, EndReason.LOGOUT)
                forget_everywhere(session, principal.session_id)
            record(
                session,
                actor,
                Action.SESSION_ENDED,
                organisation_id=principal.organisation_id,
                target_id=principal.user_id if everywhere else principal.session_id,
                data={"everywhere": everywhere},
            )

    async def change_password(
        self, principal: Principal, current: str, new: str, actor: Actor
    ) -> None:
        """Change the own password, and end all other sessions.

        Raises:
            ForbiddenError: a key was shown whose scopes don't include it.
            LoginLockedError: too many wrong passwords.
            WrongPasswordError: the current one is wrong.
        """
        principal.require(Permission.MANAGE_OWN_ACCOUNT)
        async with self._database.transaction() as session:
            charge = await self._throttle.charge(
                session, account=own_account(principal.user_id), address=actor.address
            )
            user = await session.get_one(User, principal.user_id)
        charge.require_allowed()
        right, _ = await self._verify(charge, current, user.password_hash)
        if not right:
            await self._note_failure(actor, user, charge)
            raise WrongPasswordError
        new_hash = await hash_password(new)
        async with self._database.transaction() as session:
            now = await accounts.lock_user(session, user.id)
            if now is None or now.password_hash != user.password_hash:
                raise WrongPasswordError
            await self._throttle.forgive(session, charge)
            await set_password(session, now, new_hash, actor, but=principal.session_id)


async def set_password(
    session: AsyncSession, user: User, password_hash: str, actor: Actor, *, but: UUID | None = None
) -> None:
    """Give a user another password, and end their sessions, perhaps but one."""
    user.password_hash = password_hash
    user.password_changed_at = datetime.now(UTC)
    await repository.end_sessions(session, user.id, EndReason.PASSWORD_CHANGED, but=but)
    forget_everywhere(session, user.id)
    record(
        session,
        actor,
        Action.PASSWORD_CHANGED,
        organisation_id=user.organisation_id,
        target_id=user.id,
    )
