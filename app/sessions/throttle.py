"""Slowing down those who guess passwords: by the name they try, and by their address.

A try is charged before the password is looked at, and given back if it was right: however many
tries arrive at once, no more than the limit are looked at. Names are charged as they were typed,
whether anybody has them or not, so that being locked out tells nothing about who there is.
"""

import ipaddress
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, case, func, literal, or_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.keys import hash_key
from app.accounts.names import canonical_username
from app.config import Settings
from app.db.base import seconds
from app.sessions.errors import LoginLockedError
from app.sessions.tables import LoginFailure

_NETWORK_BITS = 64


@dataclass(frozen=True)
class Charge:
    """A try that has been counted.

    Args:
        account: the hash of what was tried, such as a name at the log-in.
        address: the hash of where it came from.
        seconds_left: how long to wait; None if the password may be looked at.
        is_last: whether no other try is allowed, if this one is.
    """

    account: str | None
    address: str | None
    seconds_left: float | None
    is_last: bool

    def require_allowed(self) -> None:
        """Raise `LoginLockedError` if there were too many."""
        if self.seconds_left is not None:
            raise LoginLockedError(self.seconds_left)


@dataclass(frozen=True)
class _Count:
    """By how much the failures of a subject are over the limit, and when they are forgotten."""

    over: int
    seconds_left: float


def login_account(name: str) -> str:
    """A name or e-mail address as it is typed at the log-in, whether anybody has it or not."""
    return f"login {canonical_username(name)}"


def own_account(user_id: UUID) -> str:
    """A user who is asked for their password again; those at the log-in can't lock this."""
    return f"own {user_id}"


def _network(address: str) -> str:
    """What one person has of addresses: of IPv6 it is a network of 64 bits."""
    ip = ipaddress.ip_address(address)
    if ip.version == 4:  # noqa: PLR2004
        return address
    return str(ipaddress.ip_network((ip, _NETWORK_BITS), strict=False))


class Throttle:
    """Counts wrong passwords in Postgres, for all processes together.

    Args:
        settings: how many are too many, and for how long.
    """

    def __init__(self, settings: Settings) -> None:
        self._secret_key = settings.secret_key.get_secret_value()
        self._account_limit = settings.login_max_failures
        self._address_limit = settings.login_max_failures_per_address
        self._seconds = settings.login_lock_seconds

    async def charge(
        self, session: AsyncSession, *, account: str | None, address: str | None
    ) -> Charge:
        """Count a try as if it were wrong.

        Args:
            session: the transaction.
            account: what is tried, see `login_account` and `own_account`.
            address: where it comes from.
        """
        account_hash = address_hash = None
        counts = []
        # Always the account first: two who are charged for the same can't wait for each other.
        if account is not None:
            account_hash = self._hash(account)
            counts.append(await self._count(session, account_hash, self._account_limit))
        if address is not None:
            address_hash = self._hash(f"address {_network(address)}")
            counts.append(await self._count(session, address_hash, self._address_limit))
        waits = [count.seconds_left for count in counts if count.over > 0]
        is_last = any(count.over == 0 for count in counts)
        return Charge(account_hash, address_hash, max(waits, default=None), is_last)

    def _hash(self, subject: str) -> str:
        return hash_key(subject, self._secret_key)

    async def _count(self, session: AsyncSession, subject: str, limit: int) -> "_Count":
        """Count one failure more.

        With the one that reaches the limit these begin anew; those after it change nothing, so
        that whoever goes on trying does not keep the owner out for ever.
        """
        now, table = func.now(), LoginFailure
        over = table.expires_at <= now
        new = insert(table).values(
            subject=subject, failures=1, expires_at=now + seconds(self._seconds)
        )
        counted = new.on_conflict_do_update(
            index_elements=["subject"],
            set_={
                "failures": case((over, 1), else_=func.least(table.failures + 1, limit + 1)),
                "expires_at": case(
                    (or_(over, table.failures + 1 == limit), now + seconds(self._seconds)),
                    else_=table.expires_at,
                ),
            },
        ).returning(table.failures, func.extract("epoch", table.expires_at - now))
        row = (await session.execute(counted)).one()
        return _Count(int(row[0]) - limit, float(row[1]))

    async def give_back(self, session: AsyncSession, charge: Charge) -> None:
        """The password was not looked at: the try does not count."""
        await self._lower(session, charge.account, LoginFailure.failures - 1)
        await self._lower(session, charge.address, LoginFailure.failures - 1)

    async def forgive(self, session: AsyncSession, charge: Charge) -> None:
        """The password was right: forget the account's failures, but not those of the address.

        Whoever has one account might else use it to try passwords of others for ever.
        """
        await self._lower(session, charge.account, literal(0))
        await self._lower(session, charge.address, LoginFailure.failures - 1)

    @staticmethod
    async def _lower(
        session: AsyncSession, subject: str | None, failures: ColumnElement[int]
    ) -> None:
        if subject is None:
            return
        await session.execute(
            update(LoginFailure)
            .where(LoginFailure.subject == subject)
            .values(failures=func.greatest(failures, 0))
            .execution_options(synchronize_session=False)
        )
