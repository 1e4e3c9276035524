"""What is limited, for whom, and how much."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from app.config import Settings

SECONDS = 60
"""All limits are of a minute."""


class Kind(StrEnum):
    """What is counted. The last two are also requests, and count as both."""

    REQUESTS = "requests"
    DOWNLOADS = "downloads"
    CREATES = "creates"

    @property
    def described(self) -> str:
        """What it is, for a person."""
        return {"downloads": "download links", "creates": "new jobs"}.get(self, "requests")


@dataclass(frozen=True)
class Policy:
    """A quota of something for one caller, in each window.

    `name` tells it apart in headers and in Redis; `whose` is for a person.
    """

    kind: Kind
    name: str
    quota: int
    whose: str
    seconds: int = SECONDS

    @cached_property
    def quoted(self) -> bytes:
        """Its name, as header fields have it."""
        return f'"{self.name}"'.encode()

    @cached_property
    def described(self) -> bytes:
        """Itself, as the field `RateLimit-Policy` has it."""
        return b"%b;q=%d;w=%d" % (self.quoted, self.quota, self.seconds)

    @cached_property
    def share(self) -> int:
        """How much of it a process may admit without having told Redis."""
        return self.quota // 20

    @cached_property
    def margin(self) -> int:
        """How near the end of the quota Redis is asked about each request."""
        return 4 * self.share


@dataclass(frozen=True, slots=True)
class Policies:
    """The limits that are on: of users and keys by what is counted, and of addresses."""

    user: dict[Kind, Policy]
    key: dict[Kind, Policy]
    address: Policy | None

    @classmethod
    def of(cls, settings: Settings) -> "Policies":
        """What the settings say.

        A key belongs to one user, so a limit of keys that is not below that of users never comes
        to bear, and is not counted.
        """
        users = {
            Kind.REQUESTS: settings.rate_limit_requests_per_user,
            Kind.DOWNLOADS: settings.rate_limit_downloads_per_user,
            Kind.CREATES: settings.rate_limit_creates_per_user,
        }
        keys = {
            Kind.REQUESTS: settings.rate_limit_requests_per_key,
            Kind.DOWNLOADS: settings.rate_limit_downloads_per_key,
            Kind.CREATES: settings.rate_limit_creates_per_key,
        }
        by_address = settings.rate_limit_requests_per_address
        return cls(
            user={
                kind: Policy(kind, kind.value, quota, "your account")
                for kind, quota in users.items()
                if quota
            },
            key={
                kind: Policy(kind, f"{kind}-of-key", quota, "this key")
                for kind, quota in keys.items()
                if quota and not 0 < users[kind] <= quota
            },
            address=Policy(Kind.REQUESTS, "requests-of-address", by_address, "your address")
            if by_address
            else None,
        )
