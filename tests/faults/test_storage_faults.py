"""The way from a worker to storage is broken: the job succeeds once, with the right bytes."""

import hashlib
from pathlib import Path

import pytest
from PIL import Image

from tests.faults.proxy import Mode
from tests.faults.site import Site, wait_until

NOISE_BYTES = 1_000_000
HEADER_BYTES = 12
PUT, GET, MORE = b"PUT /", b"GET /", b""


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture of more bytes than come in one piece."""
    path = tmp_path / "noise.png"
    Image.effect_noise((500, 500), 100).save(path)
    return path


@pytest.mark.parametrize(
    ("mode", "when"),
    [
        (Mode.RESET, (PUT,)),
        (Mode.RESET, (PUT, MORE, MORE, MORE)),
        (Mode.CUT_ANSWER, (PUT,)),
        (Mode.CUT_MIDWAY, (PUT,)),
    ],
    ids=["reset", "reset in mid-upload", "answer cut", "answer cut midway"],
)
def test_upload_that_went_wrong(site: Site, mode: Mode, when: tuple[bytes, ...]) -> None:
    """Whether the file arrived, in part or not at all, the worker uploads it until it is there."""
    site.way("storage").break_requests(mode, *when)
    job_id = site.create(noise_bytes=NOISE_BYTES)
    wait_until(site.way("storage").hurt.is_set)
    site.cluster.heal()

    assert len(site.succeeds_once(job_id)) == HEADER_BYTES + NOISE_BYTES


@pytest.mark.parametrize(
    "mode", [Mode.RESET, Mode.CUT_ANSWER, Mode.CUT_MIDWAY, Mode.HOLD_ANSWER, Mode.BLACK_HOLE]
)
def test_input_that_did_not_come(site: Site, picture: Path, mode: Mode) -> None:
    """The pipeline sees the picture as it was uploaded, or it does not run."""
    object_name = site.client.upload(picture)
    site.way("storage").break_requests(mode, GET)
    job_id = site.create(picture=object_name)
    wait_until(site.way("storage").hurt.is_set)
    site.way("storage").heal()

    model = site.succeeds_once(job_id)
    seen = model[HEADER_BYTES : HEADER_BYTES + hashlib.sha256().digest_size]
    assert seen == hashlib.sha256(picture.read_bytes()).digest()
