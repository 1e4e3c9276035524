"""Logging: structlog, JSON lines or pretty on a terminal, with the request's and job's ids.

Ids are bound to the context (`structlog.contextvars`): `request_id`, `traceparent`, `job_id`,
`attempt_id`. Lines of libraries take the same way out.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

from app.config import Settings


class _RequestLines:
    """Writes the one line of each request as JSON, in the form that all other lines have.

    There are more of them than of all others together, and the way through the standard library
    costs as much as answering a poll.
    """

    def __init__(self, service: str, stream: TextIO) -> None:
        self._service = service
        self._stream = stream

    def __call__(self, level: int, fields: dict[str, Any]) -> None:
        line = {
            **fields,
            "event": _REQUEST,
            **structlog.contextvars.get_contextvars(),
            "level": logging.getLevelName(level).lower(),
            "logger": _requests.logger.name,
            "timestamp": datetime.now(UTC).isoformat().removesuffix("+00:00") + "Z",
            "service": self._service,
        }
        self._stream.write(_encode(line) + "\n")
        self._stream.flush()


class _Requests:
    """How request lines are written in this process."""

    logger = logging.getLogger("app.requests")
    write: _RequestLines | None = None


_REQUEST = "request"
_encode = json.JSONEncoder(default=repr).encode
_requests = _Requests()


def log_request(level: int, **fields: Any) -> None:
    """Write the line of a request that has been answered, with the bound ids."""
    if not _requests.logger.isEnabledFor(level):
        return
    if _requests.write is None:
        get_logger(_requests.logger.name).log(level, _REQUEST, **fields)
    else:
        _requests.write(level, fields)


def configure_logging(settings: Settings, service: str) -> None:
    """Send every log line of this process to stderr, marked with the service's name."""
    pretty = settings.log_format == "pretty" or (
        settings.log_format == "auto" and sys.stderr.isatty()
    )

    def add_service(_: object, __: str, event: structlog.typing.EventDict) -> dict[str, Any]:
        return {"service": service, **event}

    def drop_color_message(
        _: object, __: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event.pop("color_message", None)  # uvicorn's own copy of its message
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_service,
    ]
    rendering: list[Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if pretty
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                drop_color_message,
                *rendering,
            ],
        )
    )
    _requests.write = None if pretty else _RequestLines(service, sys.stderr)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for noisy in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(noisy).handlers = []
        logging.getLogger(noisy).propagate = True
    # The middleware writes one line a request, with more to say than this one.
    logging.getLogger("uvicorn.access").disabled = True
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger that adds the bound ids to each line."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
