"""The worker's end of inputs that are read by ranges: pipelines get bytes, no address, no key."""

import contextvars
import socket
import threading
from contextlib import ExitStack, suppress
from typing import Self

from contract.attempts import FailureCode
from worker_vm.logs import get_logger
from worker_vm.pipelines.base import PipelineError, RunCancelledError
from worker_vm.range_protocol import MOST_BYTES, REQUEST
from worker_vm.range_source import RangesIgnoredError, RangeSource

log = get_logger(__name__)

_SOCKET_BYTES = 1 << 20


class RangeServer:
    """Serves one input over a connection, until the other end closes or this is left.

    Args:
        source: where its bytes come from.
    """

    def __init__(self, source: RangeSource) -> None:
        self._source = source
        self._ours, self._theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
        self.failure: PipelineError | None = None
        """Why the input cannot be read."""
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._serve,), name="ranges", daemon=True
        )

    @property
    def connection(self) -> int:
        """The reader's end, as a descriptor."""
        return self._theirs.fileno()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Else the thread may go on for minutes with retries that nobody waits for.
        self._source.stop()
        with suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)
        self._theirs.close()
        self._thread.join()
        self._ours.close()

    def _serve(self) -> None:
        with suppress(OSError):
            # Whatever else comes ends it; one byte more tells what is too long.
            while len(request := self._ours.recv(REQUEST.size + 1)) == REQUEST.size:
                offset, length = REQUEST.unpack(request)
                data = self._read(offset, min(length, MOST_BYTES))
                self._ours.sendmsg([request, data])
        with suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)

    def _read(self, offset: int, length: int) -> memoryview:
        """Bytes of the file; none if they cannot be had."""
        try:
            return self._source.read(offset, length)
        except RunCancelledError:
            pass
        except PipelineError as error:
            self.failure = error
        except RangesIgnoredError:
            # It did not when the run began; another attempt will see.
            self.failure = PipelineError(
                FailureCode.INPUT_READ_ERROR,
                "Storage has stopped sending parts of files.",
                permanent=False,
            )
        except Exception:
            log.exception("input.broken")
            self.failure = PipelineError(
                FailureCode.INPUT_READ_ERROR,
                f"The input {self._source.item.parameter} could not be read:"
                " the worker failed unexpectedly; its log says how.",
                permanent=False,
            )
        return memoryview(b"")


class RangedInputs(ExitStack):
    """The inputs of a run that are read by ranges; leaving it ends all of them."""

    def __init__(self) -> None:
        super().__init__()
        self._servers: dict[str, RangeServer] = {}
        self._sizes: dict[str, int] = {}

    def serve(self, source: RangeSource) -> bool:
        """Serve an input, if storage can send parts of it.

        Raises:
            PipelineError: INPUT_CHANGED, INPUT_UNAVAILABLE, or INPUT_READ_ERROR.
        """
        with ExitStack() as opened:
            opened.enter_context(source)
            try:
                source.read(0, 1)
            except RangesIgnoredError:
                log.warning("input.no_ranges", parameter=source.item.parameter)
                return False
            server = opened.enter_context(RangeServer(source))
            self._servers[source.item.parameter] = server
            self._sizes[source.item.parameter] = source.item.size_bytes
            self.push(opened.pop_all())
        return True

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each, by the parameter that names it."""
        return dict(self._sizes)

    @property
    def connections(self) -> list[int]:
        """The readers' ends, in the same order."""
        return [server.connection for server in self._servers.values()]

    @property
    def failure(self) -> PipelineError | None:
        """Why one of them cannot be read."""
        return next((s.failure for s in self._servers.values() if s.failure is not None), None)
