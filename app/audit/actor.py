"""Who acts, and from where: what every audit event says of its cause."""

from dataclasses import dataclass, replace
from typing import Self
from uuid import UUID


@dataclass(frozen=True)
class Actor:
    """Who acts.

    Args:
        name: the user name as it is now, or a program's.
        user_id: the user, if it is one.
        credential_id: the key or the session that was shown.
        address: where the request came from.
        request_id: its id in the logs.
    """

    name: str
    user_id: UUID | None = None
    credential_id: UUID | None = None
    address: str | None = None
    request_id: str | None = None

    def known_as(
        self, name: str, user_id: UUID | None = None, credential_id: UUID | None = None
    ) -> Self:
        """The same origin, once it is known who it is."""
        return replace(self, name=name, user_id=user_id, credential_id=credential_id)
