"""E-mail to a real SMTP server: who gets which, what is in it, and what happens when it fails."""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any
from uuid import UUID

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword
from pydantic import SecretStr

from app.config import Settings
from app.db.session import Database
from app.notifications.duty import open_deliverer
from devstack import ports
from tests.support.outbox import WEBHOOKS, Outbox
from tests.support.people import Person
from tests.support.problems import assert_problem
from tests.support.receiver import TLS, Receiver, plain_answer
from tests.support.runs import Stage

PREFERENCES = "/api/v1/notifications"
ADDRESS = "ada@example.org"


@dataclass
class Mailbox:
    """What an SMTP server has taken; `refusals` are what it answers first."""

    mails: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802  (the server's name for it)
        self, _: Any, __: Any, envelope: Envelope, address: str, ___: Any
    ) -> str:
        """Take a recipient, or not."""
        if self.refusals:
            return self.refusals.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: Any, __: Any, envelope: Envelope) -> str:  # noqa: N802
        """Take a mail."""
        content = envelope.original_content or b""
        mail = message_from_bytes(content, policy=default)
        assert isinstance(mail, EmailMessage)
        self.mails.append((list(envelope.rcpt_tos), mail))
        return "250 OK"

    def log_in(self, _: Any, __: Any, ___: Any, ____: str, data: Any) -> AuthResult:
        """Note who logs in."""
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=data.password == b"right")


@dataclass
class Post:
    """A mail server, and a platform that uses it."""

    box: Mailbox
    port: int

    def settings(self, lab: Settings, **changes: Any) -> Settings:
        """Settings with this server."""
        return lab.model_copy(
            update={
                "smtp_host": "127.0.0.1",
                "smtp_port": self.port,
                "smtp_security": "none",
                "email_from": "Pipeline 3D <3d@example.org>",
                "public_url": "https://3d.example.org",
                **changes,
            }
        )


@pytest.fixture
def post() -> Iterator[Post]:
    box = Mailbox()
    server = Controller(box, hostname="127.0.0.1", port=ports.free_port())
    server.start()
    yield Post(box, server.port)
    server.stop()


@asynccontextmanager
async def sending(database: Database, settings: Settings) -> AsyncIterator[Outbox]:
    """An outbox whose deliverer sends e-mail, too."""
    async with open_deliverer(database, settings) as deliverer:
        await deliverer.announce()
        yield Outbox(database, deliverer)


@pytest.fixture
async def outbox(database: Database, lab: Settings, post: Post) -> AsyncIterator[Outbox]:
    async with sending(database, post.settings(lab)) as outbox:
        yield outbox


@pytest.fixture
async def ada(ada: Person, outbox: Outbox) -> Person:
    """A user with an address."""
    await set_address(outbox, ada, ADDRESS)
    return ada


async def set_address(outbox: Outbox, person: Person, address: str) -> None:
    """Give a user an address, whatever it is."""
    await outbox.execute("UPDATE users SET email = :e WHERE id = :id", e=address, id=person.id)


async def prefer(person: Person, email: str) -> None:
    """Say of what to be told."""
    answer = await person.client.patch(PREFERENCES, json={"email": email})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"email": email, "email_available": True}


@pytest.mark.parametrize(
    ("preference", "told"), [("off", []), ("failures", ["failed"]), ("all", ["failed", "done"])]
)
async def test_preferences(
    preference: str, told: list[str], ada: Person, outbox: Outbox, post: Post, stage: Stage
) -> None:
    """Off is the default; failures are told to those who want them, successes only to some."""
    assert (await ada.client.get(PREFERENCES)).json()["email"] == "off"
    await prefer(ada, preference)
    await stage.failed(ada)
    await stage.succeeded(ada)
    await outbox.deliver()
    subjects = [str(mail["Subject"]) for _, mail in post.box.mails]
    assert sorted(subject.rpartition(" ")[2] for subject in subjects) == sorted(told)
    assert all(recipients == [ADDRESS] for recipients, _ in post.box.mails)


async def test_what_a_failure_says(ada: Person, outbox: Outbox, post: Post, stage: Stage) -> None:
    """What went wrong and what to do, as text and as HTML; nothing of a user's is markup."""
    await prefer(ada, "failures")
    job, spec = await stage.running(ada)
    await stage.worker.fail(spec, permanent=True, message='<b>bold</b> & "so" on')
    await outbox.deliver()
    ((recipients, mail),) = post.box.mails
    assert recipients == [ADDRESS]
    assert mail["From"] == "Pipeline 3D <3d@example.org>"
    assert mail["To"] == ADDRESS
    assert mail["Auto-Submitted"] == "auto-generated"
    text, html = (part.get_content() for part in mail.iter_parts())
    for content in (text, html):
        assert f"https://3d.example.org/api/v1/jobs/{job['id']}" in content
        assert "the same input would fail again" in content
    assert '<b>bold</b> & "so" on' in text
    assert "&lt;b&gt;bold&lt;/b&gt; &amp;" in html
    assert "<b>bold" not in html


async def test_what_a_success_says(ada: Person, outbox: Outbox, post: Post, stage: Stage) -> None:
    """Where the job and its file are."""
    await prefer(ada, "all")
    job = await stage.succeeded(ada)
    await outbox.deliver()
    ((_, mail),) = post.box.mails
    for part in mail.iter_parts():
        assert f"https://3d.example.org/api/v1/jobs/{job['id']}/download" in part.get_content()


@pytest.mark.parametrize(
    "address",
    [
        "ada@example.org\r\nBcc: eve@example.org",
        "ada@example.org\nSubject: hello",
        "ada@example.org, eve@example.org",
        "Ada <ada@example.org>",
        "ada@example.org>\r\nRCPT TO:<eve@example.org",
        "no address",
        "@",
        "",
    ],
)
async def test_headers_cannot_be_injected(
    address: str, ada: Person, outbox: Outbox, post: Post, stage: Stage
) -> None:
    """An address that is none, however it came into the table, is sent nothing, and nobody else."""
    await prefer(ada, "failures")
    await set_address(outbox, ada, address)
    await stage.failed(ada)
    await outbox.deliver()
    assert post.box.mails == []
    assert [d["status"] for d in await outbox.deliveries()] == ["FAILED"]


async def test_nothing_of_users_is_in_headers(
    ada: Person, outbox: Outbox, post: Post, stage: Stage
) -> None:
    """A message or prompt with line breaks stays in the body."""
    await prefer(ada, "failures")
    _, spec = await stage.running(ada)
    await stage.worker.fail(spec, permanent=True, message="x\r\nBcc: eve@example.org\r\n\r\nhi")
    await outbox.deliver()
    ((recipients, mail),) = post.box.mails
    assert recipients == [ADDRESS]
    assert mail["Bcc"] is None


async def test_nothing_is_queued_without_a_server(
    ada: Person, outbox: Outbox, database: Database, lab: Settings, stage: Stage
) -> None:
    """Without SMTP_HOST nothing is queued, and nobody can ask for it."""
    await prefer(ada, "all")
    async with sending(database, lab) as without:
        await stage.failed(ada)
        assert await without.deliveries() == []
    answer = await ada.client.patch(PREFERENCES, json={"email": "failures"})
    assert_problem(answer, 409, "EMAIL_UNAVAILABLE")
    answer = await ada.client.patch(PREFERENCES, json={"email": "off"})
    assert answer.json() == {"email": "off", "email_available": False}


async def test_a_server_that_is_busy_is_asked_again(
    ada: Person, outbox: Outbox, post: Post, stage: Stage
) -> None:
    """A refusal for now is tried again, with the same Message-ID; one for good is not."""
    await prefer(ada, "failures")
    post.box.refusals = ["451 later"]
    await stage.failed(ada)
    await outbox.deliver()
    (delivery,) = await outbox.deliveries()
    assert (delivery["status"], delivery["attempts"]) == ("PENDING", 1)
    await outbox.make_due()
    await outbox.deliver()
    ((_, mail),) = post.box.mails
    assert mail["Message-ID"] == f"<{delivery['id']}@example.org>"

    post.box.refusals = ["550 no such user"]
    await stage.failed(ada)
    await outbox.deliver()
    assert [d["status"] for d in await outbox.deliveries()] == ["DELIVERED", "FAILED"]


async def test_a_server_that_is_away(
    ada: Person, outbox: Outbox, database: Database, lab: Settings, post: Post, stage: Stage
) -> None:
    """It is tried again later; the user is told nothing of the operator's network."""
    await prefer(ada, "failures")
    await stage.failed(ada)
    async with sending(database, post.settings(lab, smtp_port=1)) as away:
        await away.deliver()
    (delivery,) = await outbox.deliveries()
    assert delivery["status"] == "PENDING"
    assert "127.0.0.1" not in delivery["error"]


async def test_starttls_is_insisted_on(
    ada: Person, outbox: Outbox, database: Database, lab: Settings, post: Post, stage: Stage
) -> None:
    """A server that offers no TLS gets neither mail nor password, if TLS was asked for."""
    await prefer(ada, "failures")
    await stage.failed(ada)
    async with sending(database, post.settings(lab, smtp_security="starttls")) as strict:
        await strict.deliver()
    assert post.box.mails == []
    assert [d["status"] for d in await outbox.deliveries()] == ["PENDING"]


async def test_login_over_starttls(
    ada: Person,
    database: Database,
    lab: Settings,
    outbox: Outbox,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """User name and password go over TLS, to a server whose certificate is trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "localhost.pem")
    box = Mailbox()
    server = Controller(
        box,
        hostname="127.0.0.1",
        port=ports.free_port(),
        tls_context=context,
        auth_required=True,
        authenticator=box.log_in,
    )
    server.start()
    await prefer(ada, "failures")
    await stage.failed(ada)
    login = {"smtp_host": "localhost", "smtp_user": "ada", "smtp_security": "starttls"}
    try:
        for password in ("wrong", "right"):
            settings = Post(box, server.port).settings(
                lab, **login, smtp_password=SecretStr(password)
            )
            await outbox.make_due()
            async with sending(database, settings) as secure:
                await secure.deliver()
    finally:
        server.stop()
    assert box.logins == [("ada", "wrong"), ("ada", "right")]
    assert [recipients for recipients, _ in box.mails] == [[ADDRESS]]


async def test_owner_of_a_disabled_webhook_is_told(
    ada: Person, outbox: Outbox, post: Post, receiver: Receiver
) -> None:
    """Whoever has an address learns that a webhook was disabled, and how to enable it."""
    webhook = await outbox.webhook(ada, receiver.url(), events=["job.created"])
    receiver.answers = [plain_answer(410)]
    await ada.job()
    await outbox.deliver()
    ((recipients, mail),) = post.box.mails
    assert recipients == [ADDRESS]
    for part in mail.iter_parts():
        assert f"{WEBHOOKS}/{webhook['id']}/test" in part.get_content()
        assert "410" in part.get_content()
    own = await outbox.execute("SELECT user_id FROM deliveries WHERE channel = 'email'")
    assert own == [{"user_id": UUID(str(ada.id))}]
