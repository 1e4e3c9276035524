"""Logging: structlog through the standard library, and the log of one run.

Everything goes through the standard library's handlers, those of libraries included.
"""

import logging
import re
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor

TAIL_LINES = 50
TAIL_CHARACTERS = 20_000
LOG_BYTES = 8 << 20
"""The most that one run may log; a pipeline that prints for ever must not fill the disk."""

_QUERY = re.compile(r"(https?://[^\s?#\"']+)\?[^\s\"']+")
_CREDENTIALS = re.compile(r"(\w+://)[^\s/@\"']+@")
_QUIET = ("httpx", "httpcore")
"""They log whole URLs, and presigned URLs are secrets."""


def redact(text: str) -> str:
    """The text without what presigned URLs and URLs with passwords give away."""
    return _CREDENTIALS.sub(r"\1…@", _QUERY.sub(r"\1?…", text))


def storable(text: str) -> str:
    """The text without what JSON or a database refuses: NUL and lone surrogates."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _redact_event(_: object, __: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = redact(value)
        elif isinstance(value, BaseException):
            event[key] = redact(str(value))
    return event


_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def _formatter(*rendering: Processor) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )


def configure_logging(
    level: str, form: Literal["auto", "json", "pretty"], stream: TextIO | None = None
) -> None:
    """Send every line of this process to `stream` (stderr), as JSON or pretty on a terminal."""
    target = stream or sys.stderr
    pretty = form == "pretty" or (form == "auto" and target.isatty())
    handler = logging.StreamHandler(target)
    handler.setLevel(level.upper())
    handler.setFormatter(
        _formatter(_redact_event, structlog.dev.ConsoleRenderer())
        if pretty
        else _formatter(
            structlog.processors.format_exc_info,
            _redact_event,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # A run's own log keeps information lines even where the process's log is quieter.
    root.setLevel(min(logging.INFO, logging.getLevelNamesMapping()[level.upper()]))
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger that adds the bound ids to each line."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


class RunLog(logging.FileHandler):
    """What is logged for one attempt, in whichever thread, as JSON lines in a file.

    Made where the attempt's ids are bound: lines of other attempts, and of the worker itself, are
    not for its owner.
    """

    def __init__(self, path: Path, *, hide: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.path = path
        self._hidden = str(hide)
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._written = 0
        self._over = False
        self.setLevel(logging.INFO)
        attempt = structlog.contextvars.get_contextvars().get("attempt_id")
        self.addFilter(
            lambda _: structlog.contextvars.get_contextvars().get("attempt_id") == attempt
        )
        self.addFilter(lambda record: not record.name.startswith("rq."))
        self.setFormatter(
            _formatter(
                structlog.processors.ExceptionRenderer(_summarise_exception),
                _redact_event,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            )
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, unless the run is over or has said too much.

        A closed handler would open its file again, which may be gone by then.
        """
        if self._over or self._written > LOG_BYTES:
            return
        super().emit(record)

    def close(self) -> None:
        """The run is over."""
        self._over = True
        super().close()

    def format(self, record: logging.LogRecord) -> str:
        """One JSON line, without the path of the private folder."""
        line = super().format(record).replace(self._hidden, "<work>")
        self._tail.append(line)
        self._written += len(line)
        if self._written > LOG_BYTES:
            line += '\n{"event": "log.cut_off", "level": "warning"}'
        return line

    def tail(self) -> str:
        """The last lines, at most what a report may carry."""
        return storable("\n".join(self._tail))[-TAIL_CHARACTERS:]


def _summarise_exception(exc_info: structlog.typing.ExcInfo) -> str:
    """Type, message and the functions passed through: no paths of this machine."""
    kind, error, traceback = exc_info
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{Path(code.co_filename).name}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return f"{kind.__name__}: {error} | {' > '.join(frames[-12:])}"


@contextmanager
def run_log(path: Path, *, hide: Path) -> Iterator[RunLog]:
    """Collect an attempt's lines in `path` while the block runs.

    Args:
        path: the file to write.
        hide: a folder whose name the lines must not show.
    """
    log = RunLog(path, hide=hide)
    root = logging.getLogger()
    root.addHandler(log)
    try:
        yield log
    finally:
        root.removeHandler(log)
        log.close()
