"""The receiver in docs/notifications.md does what the page says."""

import re
from typing import Any

import httpx
import pytest

from tests.conftest import ROOT
from tests.support.outbox import WEBHOOKS, Outbox
from tests.support.people import Person
from tests.support.receiver import Receiver

PAGE = ROOT / "docs" / "notifications.md"


async def test_documented_receiver(
    ada: Person, outbox: Outbox, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """It takes what is signed with its secret, once, and refuses everything else."""
    webhook = await outbox.webhook(ada, receiver.url())
    await ada.client.post(f"{WEBHOOKS}/{webhook['id']}/test")
    await outbox.deliver()
    (received,) = receiver.received

    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("whsec_…", webhook["secret"]), names)  # noqa: S102  (our own page)
    transport = httpx.ASGITransport(names["app"])
    async with httpx.AsyncClient(transport=transport, base_url="http://a.test") as client:

        async def receive(body: bytes) -> int:
            answer = await client.post("/hooks/3d", content=body, headers=received.headers)
            return answer.status_code

        tampered = received.body.replace(b"webhook.test", b"job.completed")
        headers = {"content-length", "host"}
        for name in headers:
            received.headers.pop(name)
        assert [await receive(body) for body in (tampered, received.body, received.body)] == [
            401,
            204,
            204,
        ]
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("webhook.test") for line in lines) == 1
