"""Standard Webhooks signatures, and the secrets they are made with.

A secret is derived from `SECRET_KEY`, whose it is and a version, so that none is stored: a stolen
table signs nothing. After a rotation the secret before it signs along for a day.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from standardwebhooks import Webhook as Signer

OVERLAP = timedelta(hours=24)
"""How long after a rotation the secret before it is still good."""


@dataclass(frozen=True, slots=True)
class SecretOf:
    """Which secret: of a webhook, or of all callbacks of a user."""

    owner: Literal["webhook", "callbacks"]
    id: UUID
    version: int
    rotated_at: datetime | None

    def reveal(self, secret_key: str, *, version: int | None = None) -> str:
        """The secret itself, as its owner writes it down: `whsec_` and 32 bytes in base64."""
        text = f"{self.owner} secret:{self.id}:{version or self.version}"
        digest = hmac.digest(secret_key.encode(), text.encode(), "sha256")
        return f"whsec_{base64.b64encode(digest).decode()}"

    def in_use(self, secret_key: str, now: datetime) -> list[str]:
        """The secret, and the one before it while that is still good."""
        versions = [self.version]
        if self.rotated_at is not None and now < self.rotated_at + OVERLAP:
            versions.append(self.version - 1)
        return [self.reveal(secret_key, version=version) for version in versions]


def signed_headers(
    message_id: str, body: bytes, secrets: list[str], now: datetime
) -> dict[str, str]:
    """The headers by which a receiver knows that a body is ours, and new.

    Args:
        message_id: the same for every try, so that a receiver can tell a repeat.
        body: what is sent, in UTF-8.
        secrets: each of which signs.
        now: in UTC; receivers refuse what is minutes old.
    """
    text = body.decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(Signer(s).sign(message_id, now, text) for s in secrets),
    }
