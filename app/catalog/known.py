"""Models as this process last read them, for requests that are checked again when written.

What is known may be out of date. So nothing is refused because of it, and nothing is written
because of it unless the statement that writes finds the same revision (`app/jobs/creation.py`).
"""

from dataclasses import dataclass

from app.catalog.service import get_model_and_revision
from app.catalog.tables import Model
from app.db.session import Database


@dataclass(frozen=True, slots=True)
class KnownModel:
    """An enabled model, and which revision of its row that is."""

    model: Model
    revision: str


class KnownModels:
    """Models by id, read when they are first asked for; one of each process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, KnownModel] = {}

    def look_up(self, model_id: str) -> KnownModel | None:
        """What was read last; None before the first time."""
        return self._known.get(model_id)

    async def read(self, model_id: str) -> KnownModel:
        """The model as it is now.

        Raises:
            ModelNotFoundError: there is none that is enabled; names those there are.
        """
        self._known.pop(model_id, None)
        async with self._database.transaction() as session:
            known = KnownModel(*await get_model_and_revision(session, model_id))
        self._known[model_id] = known
        return known
