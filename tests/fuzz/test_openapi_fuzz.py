"""Every route under requests made from its own documentation, good ones and bad ones."""

import asyncio
import os
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import assume, given
from hypothesis import strategies as st
from mutations import budget
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.accounts.roles import Role
from contract.attempts import ATTEMPT_TOKEN_HEADER
from tests.conftest import WORKER_KEY
from tests.support.people import People
from tests.support.runs import Stage

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
NOT_HTTP = b"Invalid HTTP request received."
"""What uvicorn answers by itself."""
TAKES = {"parameters", "requestBody"}
BUDGET = budget(int(os.environ.get("FUZZ_EXAMPLES", "20")))


async def _things(people: People, stage: Stage) -> tuple[dict[str, list[str]], str, str]:
    """Names that exist, for the paths; the owner's key, and the running attempt's token."""
    owner = await people.make(role=Role.ADMIN)  # the only one, whom nobody can lock out
    done = await stage.succeeded(owner)
    failed = await stage.failed(owner)
    running, spec = await stage.running(owner)
    url = "/api/v1/webhooks/"
    webhook = (await owner.client.post(url, json={"url": "https://a.example.com"})).json()
    test = (await owner.client.post(f"{url}{webhook['id']}/test")).json()
    names = {
        "job_id": [done["id"], failed["id"], running["id"], (await owner.job())["id"]],
        "attempt_id": [str(spec.attempt_id)],
        "user_id": [str(owner.id), str((await people.make()).id)],
        "key_id": [(await owner.another_key())["id"] for _ in range(3)],
        "model_id": ["inflate-v1", "dreamfusion-sd"],
        "webhook_id": [webhook["id"]],
        "delivery_id": [test["id"]],
    }
    return names, owner.key, spec.attempt_token


@pytest.mark.parametrize("mode", list(GenerationMode))
async def test_documented_answers_only(
    mode: GenerationMode, app: FastAPI, api_url: str, people: People, stage: Stage
) -> None:
    """Whatever is sent, the answer is one that the route documents, and never a 5xx."""
    names, user_key, token = await _things(people, stage)
    schema = schemathesis.openapi.from_dict(app.openapi())
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        tried += 1
        if mode is GenerationMode.NEGATIVE and not TAKES & operation.definition.raw.keys():
            continue  # nothing in it could be wrong
        key = WORKER_KEY if operation.path.startswith("/worker") else user_key
        headers = {"x-api-key": key, ATTEMPT_TOKEN_HEADER: token}
        check = _check(operation.as_strategy(mode), names, api_url, headers)
        try:
            await asyncio.to_thread(check)
        except Exception as error:
            error.add_note(f"{mode.value}: {operation.method.upper()} {operation.path}")
            raise
    assert tried == sum(len(item) for item in app.openapi()["paths"].values())


def _check(
    cases: st.SearchStrategy[Case], names: dict[str, list[str]], url: str, headers: dict[str, str]
) -> Callable[[], None]:
    @BUDGET
    @given(case=cases, data=st.data())
    def check(case: Case, data: st.DataObject) -> None:
        _aim(case, data, names)
        answer = case.call(base_url=url, headers=headers, timeout=30)
        # Made-up credentials and headers may be no HTTP; such requests never come to a route.
        assume(answer.content != NOT_HTTP)
        case.validate_response(answer, checks=CHECKS)

    return check


def _aim(case: Case, data: st.DataObject, names: dict[str, list[str]]) -> None:
    """Let most paths lead to something that exists."""
    given_names: dict[str, Any] = case.path_parameters or {}
    for name in given_names.keys() & names.keys():
        if data.draw(st.booleans()):
            given_names[name] = data.draw(st.sampled_from([*names[name], str(uuid4())]))
