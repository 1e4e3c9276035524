"""Looking into the outbox, and letting it be emptied."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.db.session import Database
from app.notifications.deliverer import Deliverer
from tests.support.people import Person

WEBHOOKS = "/api/v1/webhooks"


@dataclass
class Outbox:
    """What is in the outbox, and moments in it that take too long to wait for."""

    database: Database
    deliverer: Deliverer

    async def execute(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        """Rows of a statement, in a transaction of its own."""
        async with self.database.transaction() as session:
            found = await session.execute(text(statement), values)
            return [dict(row._mapping) for row in found] if found.returns_rows else []

    async def deliveries(self) -> list[dict[str, Any]]:
        """Every delivery, oldest first."""
        return await self.execute("SELECT * FROM deliveries ORDER BY id")

    async def deliver(self) -> int:
        """Deliver all that is due; answers how many tries that took."""
        tries = 0
        while found := await self.deliverer.run_once():
            tries += found
            await self.deliverer.settle()
        return tries

    async def make_due(self) -> None:
        """Let every wait, and every lease, be over."""
        await self.execute("UPDATE deliveries SET due_at = now() WHERE status = 'PENDING'")

    async def webhook(
        self, person: Person, url: str, *, events: list[str] | None = None
    ) -> dict[str, Any]:
        """A webhook for a URL that the API, with its usual settings, would refuse."""
        body = {"url": "https://hooks.example.com/"} | ({"events": events} if events else {})
        answer = await person.client.post(f"{WEBHOOKS}/", json=body)
        assert answer.status_code == 201, answer.text
        await self.execute(
            "UPDATE webhooks SET url = :url WHERE id = :id", url=url, id=UUID(answer.json()["id"])
        )
        return dict(answer.json())
