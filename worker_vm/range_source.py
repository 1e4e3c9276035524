"""An input that stays in storage: its bytes by ranges, in blocks that are kept for a while.

Video decoders read from one end to the other, some times over, with a few looks at the other end.
"""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from typing import Self

import httpx

from contract.attempts import FailureCode, InputFile
from worker_vm.backoff import RetryPolicy, retry
from worker_vm.downloads import (
    SILENT_SECONDS,
    StorageUnavailableError,
    changed,
    check_answer,
    request_headers,
)
from worker_vm.http_client import describe_network_error
from worker_vm.logs import get_logger
from worker_vm.pipelines.base import PipelineError, RunCancelledError

log = get_logger(__name__)

BLOCK_BYTES = 4 << 20
_KEPT = 8
"""Blocks in memory, besides one that is on its way."""
_LOOK_SECONDS = 0.2
"""How long a wait may go on when nobody needs it any more."""
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_UNSATISFIABLE = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
_ANSWERS = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, _UNSATISFIABLE)
"""Some servers send a part, and say which, with status 200."""


class RangesIgnoredError(Exception):
    """Storage sends the whole object, whatever part of it is asked for."""


class RangeSource:
    """One input. For one reader; what comes next is fetched while that works.

    Args:
        client: for storage; it must not carry the worker key.
        item: the input.
        policy: how patient to be with storage.
        pause: see `retry`.
    """

    def __init__(
        self,
        client: httpx.Client,
        item: InputFile,
        *,
        policy: RetryPolicy,
        pause: Callable[[float], bool],
    ) -> None:
        self.item = item
        self.requests = 0
        """How many there were so far, those that failed included."""
        self.bytes_read = 0
        """How many came so far."""
        self._client = client
        self._policy = policy
        self._pause = pause
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._coming: tuple[int, Future[bytes]] | None = None
        self._last = -1
        self._closing = threading.Event()
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")

    def __enter__(self) -> Self:
        return self

    def stop(self) -> None:
        """Give up what is being fetched, and fetch no more; from any thread."""
        self._closing.set()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._ahead.shutdown(wait=False, cancel_futures=True)
        log.info(
            "input.read",
            parameter=self.item.parameter,
            size_bytes=self.item.size_bytes,
            read_bytes=self.bytes_read,
            requests=self.requests,
        )

    def read(self, offset: int, length: int) -> memoryview:
        """Some bytes from a place on: at least one, at most `length`, and none behind the end.

        Raises:
            PipelineError: INPUT_CHANGED, INPUT_UNAVAILABLE, or INPUT_READ_ERROR, which may pass.
            RangesIgnoredError: there is no reading by ranges.
            RunCancelledError: it was stopped.
        """
        if offset >= self.item.size_bytes or length <= 0:
            return memoryview(b"")
        number, place = divmod(offset, BLOCK_BYTES)
        return memoryview(self._block(number))[place : place + length]

    def _block(self, number: int) -> bytes:
        block = self._blocks.pop(number, None)
        if block is None:
            block = self._arrived(number)
        self._blocks[number] = block
        if len(self._blocks) > _KEPT:
            self._blocks.popitem(last=False)
        if number == self._last + 1:
            self._read_ahead(number + 1)
        self._last = number
        return block

    def _arrived(self, number: int) -> bytes:
        """A block that is on its way, or else is fetched now."""
        if self._coming is not None:
            coming, future = self._coming
            if coming == number:
                self._coming = None
                return future.result()
        return self._fetch(number)

    def _read_ahead(self, number: int) -> None:
        if number in self._blocks or number * BLOCK_BYTES >= self.item.size_bytes:
            return
        if self._coming is not None:
            coming, future = self._coming
            if coming == number:
                return
            # A seek made it useless; its failure is nobody's.
            future.cancel()
        self._coming = number, self._ahead.submit(self._fetch, number)

    def _fetch(self, number: int) -> bytes:
        first = number * BLOCK_BYTES
        last = min(first + BLOCK_BYTES, self.item.size_bytes) - 1
        try:
            return retry(
                lambda: self._get(first, last),
                policy=self._policy,
                retryable=lambda error: isinstance(error, StorageUnavailableError),
                pause=self._wait,
                on_failure=lambda error, wait: log.warning(
                    "input.retry", reason=str(error), wait_seconds=round(wait, 1)
                ),
            )
        except StorageUnavailableError as error:
            raise self._unreadable(str(error)) from error

    def _wait(self, seconds: float) -> bool:
        """Wait, at most until the run or this should stop; says whether one of them should."""
        until = time.monotonic() + seconds
        while not self._closing.is_set() and (left := until - time.monotonic()) > 0:
            if self._pause(min(left, _LOOK_SECONDS)):
                return True
        return self._closing.is_set()

    def _get(self, first: int, last: int) -> bytes:
        headers = {**request_headers(self.item), "Range": f"bytes={first}-{last}"}
        self._check_wanted()
        self.requests += 1
        try:
            with self._client.stream(
                "GET", self.item.url, headers=headers, timeout=SILENT_SECONDS
            ) as response:
                if response.status_code == HTTPStatus.FORBIDDEN:
                    raise self._unreadable("storage refused it; its address may have expired")
                check_answer(response, self.item, _ANSWERS)
                self._check_range(response, first, last)
                return self._body(response, last - first + 1)
        except httpx.HTTPError as error:
            raise StorageUnavailableError(describe_network_error(error)) from None

    def _check_range(self, response: httpx.Response, first: int, last: int) -> None:
        """Check that the answer is the part that was asked for, of an object of the same size."""
        if response.status_code == _UNSATISFIABLE:
            raise changed(self.item)
        told = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if told is not None:
            start, end, size = map(int, told.groups())
        elif response.status_code == HTTPStatus.OK:
            size = int(response.headers.get("Content-Length", self.item.size_bytes))
            start, end = 0, size - 1
        else:
            raise StorageUnavailableError("storage does not say what part it sends")
        if size != self.item.size_bytes:
            raise changed(self.item)
        if (start, end) != (first, last):
            raise RangesIgnoredError

    def _body(self, response: httpx.Response, length: int) -> bytes:
        body = bytearray()
        for chunk in response.iter_raw():
            self._check_wanted()
            body += chunk
            self.bytes_read += len(chunk)
            if len(body) > length:
                raise changed(self.item)
        if len(body) < length:
            raise StorageUnavailableError(f"an answer ended after {len(body)} of {length} bytes")
        return bytes(body)

    def _check_wanted(self) -> None:
        if self._closing.is_set():
            raise RunCancelledError

    def _unreadable(self, reason: str) -> PipelineError:
        return PipelineError(
            FailureCode.INPUT_READ_ERROR,
            f"The input {self.item.parameter} could not be read: {reason}.",
            permanent=False,
        )
