"""A result that is sent while it is made: the way breaks, a worker dies, and it counts once."""

import pytest

from tests.faults.proxy import Mode
from tests.faults.site import Site, wait_until

BYTES = 20_000_000
HEADER_BYTES = 12
PART, URLS = b"partNumber=2", b"/streams/parts"
BEGIN, COMPLETE = b"/streams HTTP", b"/streams/complete"
MORE = b""


@pytest.mark.parametrize(
    ("way", "mode", "when"),
    [
        ("storage", Mode.RESET, (PART,)),
        ("storage", Mode.RESET, (PART, MORE, MORE, MORE)),
        ("storage", Mode.CUT_ANSWER, (PART,)),
        ("storage", Mode.CUT_MIDWAY, (PART,)),
        ("api", Mode.CUT_ANSWER, (BEGIN,)),
        ("api", Mode.RESET, (URLS,)),
        ("api", Mode.CUT_ANSWER, (COMPLETE,)),
    ],
    ids=[
        "part reset",
        "part reset midway",
        "part's answer cut",
        "part's answer cut midway",
        "beginning's answer cut",
        "addresses reset",
        "completion's answer cut",
    ],
)
def test_a_way_that_breaks(site: Site, way: str, mode: Mode, when: tuple[bytes, ...]) -> None:
    """Whatever was lost on its way is sent again, and the file is what was made."""
    site.way(way).break_requests(mode, *when)
    job_id = site.create(noise_bytes=BYTES, streamed=True)
    wait_until(site.way(way).hurt.is_set)
    site.cluster.heal()

    assert len(site.succeeds_once(job_id)) == HEADER_BYTES + BYTES


def test_a_worker_killed_in_mid_stream(site: Site) -> None:
    """The next attempt makes the whole file, and what the dead worker had sent is dropped."""
    uploads = "SELECT upload_id FROM upload_tickets WHERE upload_id IS NOT NULL"
    job_id = site.create(noise_bytes=BYTES, streamed=True, seconds=8)
    wait_until(lambda: site.cluster.query(uploads))
    site.process("worker").kill()
    site.process("worker").start()

    assert site.end_of(job_id)["status"] == "SUCCEEDED"
    assert site.attempts(job_id) == ["LOST", "SUCCEEDED"]
    assert len(site.model_of(job_id)) == HEADER_BYTES + BYTES
    wait_until(lambda: not site.cluster.query(uploads))
