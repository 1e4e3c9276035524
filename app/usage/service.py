"""Whether there is room for more, and the account of what is used."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.config import Settings
from app.db.session import Database
from app.db.shared_reads import SharedReads
from app.usage.errors import QuotaExceededError
from app.usage.quotas import Owner, Quota, Resource
from app.usage.repository import find_usage, lock_usage, usage_query

_KNOWN_SECONDS = 1.0

Quotas = dict[tuple[Owner, Resource], Quota]


class UsageLimits:
    """Refuses what would be too much; one of each process.

    What is used is read at most once a second for each user who creates jobs: bytes, GPU-seconds
    and what an organisation has waiting may be exceeded by what comes within that time. The queue
    of a user is not: the statement that writes jobs counts it itself (`app/jobs/creation.py`).

    Args:
        database: has the use, and the quotas of single users and organisations.
        settings: have all other quotas.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._known = SharedReads(self._find, seconds=_KNOWN_SECONDS)

    def forget_all(self) -> None:
        """Read everything again."""
        self._known.forget_all()

    async def require_room_for_job(
        self, principal: Principal, more_bytes: int = 0, *, may_be_known: bool = False
    ) -> None:
        """Check that a user may create a job, or run one again.

        Args:
            principal: the user.
            more_bytes: what it takes of storage beyond what has been counted.
            may_be_known: whether what was used up to a second ago will do.

        Raises:
            QuotaExceededError: a quota of the user's or the organisation's is used up.
        """
        user_id = principal.user_id
        if may_be_known:
            quotas = await self._known.get(user_id)
            # Nobody is refused by what was so a second ago.
            if quotas and _lacking_for_job(quotas, more_bytes) is None:
                return
        quotas = (await self._find([user_id])).get(user_id)
        lacking = _lacking_for_job(quotas, more_bytes) if quotas else None
        if lacking:
            raise lacking

    async def require_room_for_upload(
        self, session: AsyncSession, principal: Principal, size_bytes: int
    ) -> None:
        """Check that a user may upload so many bytes; no other upload comes in between.

        Raises:
            QuotaExceededError: storage of the user's or the organisation's is used up.
        """
        await lock_usage(session, principal.user_id)
        quotas = quotas_of(await find_usage(session, self._settings, principal.user_id))
        for owner in Owner:
            quota = quotas[owner, Resource.STORAGE_BYTES]
            if not quota.has_room(max(size_bytes, 1)):
                raise quota.exceeded(size_bytes)

    async def queue_is_full(self, principal: Principal) -> QuotaExceededError:
        """The error of a job that found a user's queue full when it was to be written."""
        quotas = (await self._find([principal.user_id]))[principal.user_id]
        return quotas[Owner.USER, Resource.QUEUED_JOBS].exceeded()

    async def read(self, session: AsyncSession, principal: Principal) -> Quotas:
        """Every quota of a user and of the organisation, as it stands now."""
        return quotas_of(await find_usage(session, self._settings, principal.user_id))

    async def _find(self, user_ids: Sequence[UUID]) -> Mapping[UUID, Quotas]:
        rows = await self._database.read(*usage_query(self._settings, user_ids))
        return {row.user_id: quotas_of(row) for row in rows}


def _lacking_for_job(quotas: Quotas, more_bytes: int) -> QuotaExceededError | None:
    wanted = {
        Resource.QUEUED_JOBS: 1,
        Resource.GPU_SECONDS: 1,
        Resource.STORAGE_BYTES: more_bytes,
    }
    for owner in Owner:
        for resource, more in wanted.items():
            quota = quotas[owner, resource]
            if not quota.has_room(more):
                return quota.exceeded(more)
    return None


def quotas_of(row: Row[Any]) -> Quotas:
    """A row of `usage_query`, as quotas."""
    return {(quota.owner, quota.resource): quota for quota in _each(row)}


def _each(row: Row[Any]) -> Iterator[Quota]:
    columns = {
        Resource.ACTIVE_JOBS: "active",
        Resource.QUEUED_JOBS: "queued",
        Resource.STORAGE_BYTES: "storage",
        Resource.GPU_SECONDS: "gpu",
    }
    for owner in Owner:
        for resource, name in columns.items():
            yield Quota(
                owner,
                resource,
                getattr(row, f"{owner}_{name}"),
                getattr(row, f"{owner}_{name}_limit") or None,
                row.month_ends_at if resource is Resource.GPU_SECONDS else None,
            )
