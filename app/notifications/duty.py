"""The deliverer with all that it needs, as the dispatcher process runs it."""

import contextlib
from collections.abc import AsyncIterator

from app.config import Settings
from app.db.session import Database
from app.db.signals import Channel as SignalChannel
from app.notifications.deliverer import AT_ONCE, Deliverer, Sender
from app.notifications.guarded_http import GuardedHttp, Resolver
from app.notifications.mailer import Mailer
from app.notifications.tables import Channel
from app.notifications.webhook_sender import WebhookSender

# The trigger that fills the outbox sends it, too: nobody looks while there is nothing to tell.
_WAKING = (SignalChannel.DELIVERY_READY,)


@contextlib.asynccontextmanager
async def open_deliverer(database: Database, settings: Settings) -> AsyncIterator[Deliverer]:
    """A deliverer by every channel that the settings set up; woken by the database's signals."""
    resolver = Resolver(AT_ONCE)
    http = GuardedHttp(settings.webhook_allowed_networks, resolver)
    webhooks = WebhookSender(settings, http)
    senders: dict[Channel, Sender] = {Channel.WEBHOOK: webhooks, Channel.CALLBACK: webhooks}
    if settings.smtp_host:
        senders[Channel.EMAIL] = Mailer(settings)
    deliverer = Deliverer(database, settings, senders)
    for channel in _WAKING:
        database.signals.on(channel, lambda _: deliverer.wake_soon())
    try:
        yield deliverer
    finally:
        await deliverer.close()
        resolver.close()
