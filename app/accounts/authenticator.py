"""Finding out who is asking: API keys and access tokens become principals."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from app.accounts import repository
from app.accounts.errors import ForbiddenError, NotAuthenticatedError
from app.accounts.key_uses import KeyUses
from app.accounts.keys import hash_key, may_be_key
from app.accounts.principal import Principal, WorkerPrincipal
from app.accounts.roles import Role, Scope, withheld_from
from app.accounts.tables import Organisation, User
from app.config import Settings
from app.db.session import Database
from app.db.signals import Channel
from app.sessions.repository import find_live_session
from app.sessions.tokens import AccessTokens

CACHE_SECONDS = 5.0
_CACHE_ENTRIES = 10_000
_BEARER = "bearer "

AnyPrincipal = Principal | WorkerPrincipal


@dataclass(frozen=True, slots=True)
class _Known:
    """A principal, how long it is good for, and what it hangs on: key or session, and user."""

    principal: AnyPrincipal
    seconds: float
    hangs_on: frozenset[str]
    key_id: UUID | None = None


class Authenticator:
    """Turns API keys and access tokens into principals; one of each process.

    Principals are cached for a few seconds by a keyed hash of what was shown. Whatever ends or
    changes one (a key revoked, a log-out, another role) drops it from every process's cache by a
    signal, and at the latest when those seconds are over.

    Args:
        database: knows keys, sessions and users.
        settings: the secret, and what viewers may do.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._secret_key = settings.secret_key.get_secret_value()
        self._viewers_may_download = settings.viewers_may_download
        self._tokens = AccessTokens(settings)
        self._cache: dict[str, tuple[float, _Known]] = {}
        self._forgotten = 0
        self.key_uses = KeyUses(database)
        database.signals.on(Channel.ACCESS_CHANGED, self._forget)

    def _forget(self, changed: str) -> None:
        self._forgotten += 1
        for shown, (_, known) in list(self._cache.items()):
            if changed in known.hangs_on:
                del self._cache[shown]

    def forget_all(self) -> None:
        """Ask the database again for everybody."""
        self._forgotten += 1
        self._cache.clear()

    async def authenticate(self, key: str | None, authorization: str | None = None) -> AnyPrincipal:
        """The principal that a request comes from.

        Args:
            key: the header `x-api-key`; if there is one, it alone counts.
            authorization: the header `Authorization`.

        Raises:
            NotAuthenticatedError: neither is there, or what there is is not valid any more.
        """
        if key:
            return await self._look_up(key, self._by_key)
        if authorization and authorization[: len(_BEARER)].lower() == _BEARER:
            return await self._look_up(authorization[len(_BEARER) :].strip(), self._by_token)
        raise NotAuthenticatedError

    async def _look_up(
        self, shown: str, find: Callable[[str, str], Awaitable[_Known]]
    ) -> AnyPrincipal:
        shown_hash = hash_key(shown, self._secret_key)
        cached = self._cache.get(shown_hash)
        if cached and cached[0] > time.monotonic():
            known = cached[1]
        else:
            forgotten, asked_at = self._forgotten, time.monotonic()
            known = await find(shown, shown_hash)
            # Not what was read before something changed, if only perhaps.
            if forgotten == self._forgotten:
                if len(self._cache) >= _CACHE_ENTRIES:
                    self._cache.clear()
                seconds = min(CACHE_SECONDS, known.seconds)
                self._cache[shown_hash] = (asked_at + seconds, known)
        if known.key_id:
            self.key_uses.note(known.key_id)
        return known.principal

    async def _by_key(self, key: str, key_hash: str) -> _Known:
        if not may_be_key(key):
            raise NotAuthenticatedError("This is not an API key: check for a typing error.")
        async with self._database.transaction() as session:
            found = await repository.find_live_key(session, key_hash)
        if found is None:
            raise NotAuthenticatedError("This API key is unknown, expired or revoked.")
        row = found.key
        seconds = CACHE_SECONDS if found.seconds_left is None else found.seconds_left
        if found.user is None or found.organisation is None:
            return _Known(WorkerPrincipal(row.id), seconds, frozenset({str(row.id)}), row.id)
        scopes = None if row.scopes is None else frozenset(map(Scope, row.scopes))
        principal = self._principal(found.user, found.organisation, scopes=scopes, key_id=row.id)
        return _Known(principal, seconds, frozenset({str(row.id), str(found.user.id)}), row.id)

    async def _by_token(self, token: str, _: str) -> _Known:
        claims = self._tokens.read(token)
        async with self._database.transaction() as session:
            found = await find_live_session(session, claims.session_id, claims.user_id)
        if found is None:
            raise NotAuthenticatedError("This session has ended. Log in again.")
        user, organisation = found
        principal = self._principal(user, organisation, session_id=claims.session_id)
        hangs_on = frozenset({str(claims.session_id), str(user.id)})
        return _Known(principal, claims.expires_at - time.time(), hangs_on)

    def _principal(
        self,
        user: User,
        organisation: Organisation,
        *,
        scopes: frozenset[Scope] | None = None,
        key_id: UUID | None = None,
        session_id: UUID | None = None,
    ) -> Principal:
        role = Role(user.role)
        return Principal(
            user_id=user.id,
            organisation_id=user.organisation_id,
            username=user.username,
            role=role,
            withheld=withheld_from(
                role,
                runs_platform=organisation.runs_platform,
                viewers_may_download=self._viewers_may_download,
            ),
            scopes=scopes,
            key_id=key_id,
            session_id=session_id,
        )


def require_user(principal: AnyPrincipal) -> Principal:
    """The principal, if it is a person.

    Raises:
        ForbiddenError: it is a GPU machine.
    """
    if not isinstance(principal, Principal):
        raise ForbiddenError("A worker key cannot be used here; use a user's API key.")
    return principal
