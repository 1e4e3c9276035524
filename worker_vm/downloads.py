"""What a run begins with: fetched by presigned GET, and only exactly what was promised."""

import re
from collections.abc import Callable, Container, Iterable
from http import HTTPStatus
from pathlib import Path

import httpx

from contract.attempts import FailureCode, InputFile
from worker_vm.backoff import RetryPolicy, retry
from worker_vm.http_client import describe_network_error
from worker_vm.logs import get_logger
from worker_vm.pipelines.base import PipelineError

log = get_logger(__name__)

SILENT_SECONDS = 15
"""How long storage may be silent in a download; in an upload it may have much to do at the end."""


class StorageUnavailableError(Exception):
    """Storage did not answer, or not as it should; it may later."""


class Downloader:
    """Fetches what one run begins with.

    Args:
        client: for storage; it must not carry the worker key.
        policy: how patient to be with storage.
        check: called between chunks; raises to stop.
        pause: see `retry`.
    """

    def __init__(
        self,
        client: httpx.Client,
        *,
        policy: RetryPolicy,
        check: Callable[[], None],
        pause: Callable[[float], bool],
    ) -> None:
        self._client = client
        self._policy = policy
        self._check = check
        self._pause = pause

    def fetch_inputs(self, inputs: Iterable[InputFile], folder: Path) -> dict[str, Path]:
        """Fetch every input into a folder, which is made here.

        Returns:
            The files by the parameter that names them.

        Raises:
            PipelineError: INPUT_CHANGED, INPUT_UNAVAILABLE or STORAGE_UNAVAILABLE.
        """
        folder.mkdir()
        return {
            item.parameter: self._fetch(item, folder / _local_name(number, item.object_name))
            for number, item in enumerate(inputs)
        }

    def fetch_if_there(self, item: InputFile | None, folder: Path) -> Path | None:
        """Fetch what a run can do without, such as a checkpoint, into a folder made here.

        None if there is nothing, or it cannot be had.
        """
        if item is None:
            return None
        folder.mkdir()
        try:
            return self._fetch(item, folder / _local_name(0, item.object_name))
        except PipelineError as error:
            log.warning("input.left_out", name=item.parameter, code=error.code)
            return None

    def _fetch(self, item: InputFile, path: Path) -> Path:
        try:
            retry(
                lambda: _download(self._client, item, path, self._check),
                policy=self._policy,
                retryable=lambda error: isinstance(error, StorageUnavailableError),
                pause=self._pause,
                on_failure=lambda error, wait: log.warning(
                    "input.retry", reason=str(error), wait_seconds=round(wait, 1)
                ),
            )
        except StorageUnavailableError as error:
            raise PipelineError(
                FailureCode.STORAGE_UNAVAILABLE,
                f"The input {item.parameter} could not be downloaded: {error}.",
                permanent=False,
            ) from error
        log.info("input.downloaded", parameter=item.parameter, size_bytes=item.size_bytes)
        return path


def _local_name(number: int, object_name: str) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]", "_", object_name.rsplit("/", 1)[-1])[-80:]
    return f"{number:02d}-{name}"


def _download(client: httpx.Client, item: InputFile, path: Path, check: Callable[[], None]) -> None:
    headers = request_headers(item)
    try:
        with client.stream("GET", item.url, headers=headers, timeout=SILENT_SECONDS) as response:
            check_answer(response, item)
            length = response.headers.get("Content-Length")
            if length is not None and int(length) != item.size_bytes:
                raise changed(item)
            _write(response, item, path, check)
    except httpx.HTTPError as error:
        raise StorageUnavailableError(describe_network_error(error)) from None


def request_headers(item: InputFile) -> dict[str, str]:
    """What every request for an input says: this very object, as it is."""
    return {"If-Match": f'"{bare(item.etag)}"', "Accept-Encoding": "identity"}


def bare(etag: str) -> str:
    """An ETag without its quotes, and whether it is called weak or not."""
    return etag.removeprefix("W/").strip('"')


def check_answer(
    response: httpx.Response, item: InputFile, accepted: Container[int] = (HTTPStatus.OK,)
) -> None:
    """Check by status and ETag that storage answers with the object that was promised.

    Raises:
        PipelineError: INPUT_CHANGED, or INPUT_UNAVAILABLE.
        StorageUnavailableError: it may later.
    """
    status = response.status_code
    if status == HTTPStatus.NOT_FOUND:
        raise PipelineError(
            FailureCode.INPUT_UNAVAILABLE,
            f"The input {item.parameter} is no longer in storage; upload it again.",
            permanent=True,
        )
    if status == HTTPStatus.FORBIDDEN:
        raise PipelineError(
            FailureCode.INPUT_UNAVAILABLE,
            f"Storage refused to hand over the input {item.parameter}.",
            permanent=False,
        )
    if status == HTTPStatus.PRECONDITION_FAILED:
        raise changed(item)
    if status not in accepted:
        raise StorageUnavailableError(f"storage answered {status}")
    served = response.headers.get("ETag")
    if served is not None and bare(served) != bare(item.etag):
        raise changed(item)


def _write(
    response: httpx.Response, item: InputFile, path: Path, check: Callable[[], None]
) -> None:
    received = 0
    with path.open("wb") as file:
        for chunk in response.iter_raw(1 << 16):
            check()
            received += len(chunk)
            if received > item.size_bytes:
                raise changed(item)
            file.write(chunk)
    if received < item.size_bytes:
        raise StorageUnavailableError(f"the download ended after {received} bytes")


def changed(item: InputFile) -> PipelineError:
    """The failure of an input that is another object than it was."""
    return PipelineError(
        FailureCode.INPUT_CHANGED,
        f"The input {item.parameter} is not the file that the job was created with;"
        " create a new job.",
        permanent=True,
    )
