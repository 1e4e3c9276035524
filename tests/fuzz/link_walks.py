"""Walks along the links of the OpenAPI document: an answer leads to the next request."""

import asyncio
from abc import abstractmethod
from collections import Counter
from typing import Any

import schemathesis
from hypothesis import settings
from mutations import budget
from schemathesis import Case
from schemathesis.core.transport import Response
from test_openapi_fuzz import CHECKS


class Guide:
    """Who walks, and what happens beside the API.

    Args:
        url: where the API is.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def clear(self) -> None:
        """Each walk begins with the same, so that the same choices lead the same way."""

    @abstractmethod
    def before(self, where: str, number: int, case: Case) -> None:
        """Make of what was drawn, as the walk's call of this number, what a client would send."""

    @abstractmethod
    def headers(self, case: Case) -> dict[str, str]:
        """Those of somebody who may use the route."""

    @abstractmethod
    def after(self, where: str, answer: Response) -> None:
        """Use what was answered."""


async def walk(
    document: dict[str, Any], paths: str, guide: Guide, *, walks: int, steps: int
) -> Counter[str]:
    """Go wherever links lead; answers are documented ones. How often each came, by route.

    Args:
        document: with the links.
        paths: a regular expression of those to walk among.
        guide: who walks.
        walks: how many.
        steps: how long each is.
    """
    seen: Counter[str] = Counter()
    only_ours = schemathesis.Config()
    only_ours.projects.default.generation.with_security_parameters = False
    only_ours.projects.default.phases.stateful.inference.algorithms = []
    # No link leads from or to the others: walks would only lose their way there.
    schema = schemathesis.openapi.from_dict(document, config=only_ours).include(path_regex=paths)

    class Walk(schema.as_state_machine()):  # type: ignore[misc]
        def setup(self) -> None:
            """Begin."""
            self.calls = 0
            guide.clear()

        def before_call(self, case: Case) -> None:
            """Let the guide choose."""
            self.calls += 1
            guide.before(f"{case.method} {case.path}", self.calls, case)

        def call(self, case: Case, **_: Any) -> Response:
            """Ask the API as whoever may use the route."""
            return case.call(base_url=guide.url, headers=guide.headers(case), timeout=30)

        def after_call(self, response: Response, case: Case) -> None:
            """Note what was answered."""
            super().after_call(response, case)
            where = f"{case.method} {case.path}"
            seen[f"{where} {response.status_code}"] += 1
            guide.after(where, response)

        def validate_response(self, response: Response, case: Case, **_: Any) -> None:
            """It is as documented, and no 5xx."""
            case.validate_response(response, checks=CHECKS)

    chosen = settings(budget(walks), stateful_step_count=steps)
    await asyncio.to_thread(Walk.run, settings=chosen)
    return seen
