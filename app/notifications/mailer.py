"""E-mail about jobs that have ended, and about webhooks that were disabled.

Headers are made by `email.message.EmailMessage`, which refuses line breaks in them; what users have
written stands in bodies only, and is escaped in HTML.
"""

from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import aiosmtplib
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from typing_extensions import override

from app.config import Settings
from app.notifications.deliverer import Sender
from app.notifications.events import WEBHOOK_DISABLED, Event
from app.notifications.messages import job_of
from app.notifications.outbox import DueDelivery, Outcome

TIME_LIMIT_SECONDS = 15.0

_PERMANENT = 500
_TEMPLATES = {
    Event.COMPLETED.value: ("job_completed", "Your 3D job is done"),
    Event.FAILED.value: ("job_failed", "Your 3D job has failed"),
    WEBHOOK_DISABLED: ("webhook_disabled", "Your webhook was disabled"),
}


class Mailer(Sender):
    """Sends deliveries by SMTP.

    Args:
        settings: the server, the sender and the address of this site; `SMTP_HOST` must be set.
    """

    def __init__(self, settings: Settings) -> None:
        assert settings.smtp_host, "without a server there is nothing to send by"
        assert settings.email_from, "checked with the settings"
        self._settings = settings
        self._sender = settings.email_from
        self._templates = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    @override
    async def send(self, delivery: DueDelivery) -> Outcome:
        if not delivery.email:
            return Outcome("Your account has no e-mail address any more.", final=True)
        try:
            recipient = Address(addr_spec=delivery.email)
        except (ValueError, IndexError, HeaderParseError):
            return Outcome("Your account's e-mail address is none.", final=True)
        try:
            await self._send(self._message(delivery, recipient))
        except aiosmtplib.SMTPRecipientsRefused as error:
            final = all(refused.code >= _PERMANENT for refused in error.recipients)
            return Outcome("The mail server refuses your address.", final=final)
        except (aiosmtplib.SMTPException, OSError) as error:
            # The operator's matter, and not for the user's eyes, is what the server said.
            return Outcome(f"The mail server could not take it ({type(error).__name__}).")
        return Outcome()

    def _message(self, delivery: DueDelivery, recipient: Address) -> EmailMessage:
        name, subject = _TEMPLATES[delivery.type]
        values = self._values(delivery)
        message = EmailMessage(SMTP_POLICY)
        message["From"] = self._sender
        message["To"] = recipient
        message["Subject"] = subject
        message["Date"] = format_datetime(delivery.occurred_at)
        # The same for every try, so that a repeat is known.
        domain = message["From"].addresses[0].domain
        message["Message-ID"] = f"<{delivery.id}@{domain}>"
        message["Auto-Submitted"] = "auto-generated"  # keeps out-of-office replies away (RFC 3834)
        message.set_content(self._templates.get_template(f"{name}.txt").render(values))
        html = self._templates.get_template(f"{name}.html").render(values)
        message.add_alternative(html, subtype="html")
        return message

    def _values(self, delivery: DueDelivery) -> dict[str, Any]:
        values = {"username": delivery.username, "site": self._settings.public_url}
        if delivery.type == WEBHOOK_DISABLED:
            return {**values, **delivery.data}
        job = job_of(delivery.data)
        return {**values, "job": job, "link": f"{self._settings.public_url}/api/v1/jobs/{job.id}"}

    async def _send(self, message: EmailMessage) -> None:
        settings = self._settings
        password = settings.smtp_password
        await aiosmtplib.send(
            message,
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            username=settings.smtp_user,
            password=password.get_secret_value() if password else None,
            use_tls=settings.smtp_security == "tls",
            start_tls=settings.smtp_security == "starttls",
            timeout=TIME_LIMIT_SECONDS,
        )
