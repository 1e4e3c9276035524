"""Detected events on their way from a pipeline to the app: in order, each once, none lost."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_platform import LOST, Platform, Reply
from worker_support import content, do, meanwhile, until

from contract.attempts import AttemptHeartbeat
from contract.events import MOST_EVENTS
from worker_vm import spool
from worker_vm.backoff import RetryPolicy
from worker_vm.event_outbox import DROPPED, RESTARTED, EventOutbox
from worker_vm.runner import RunHost, deliver_spooled, run_attempt
from worker_vm.supervisor import Timings

BRIEF = RetryPolicy(first_wait=0.01, longest_wait=0.02, give_up_after=0.1)
ENTER: list[Any] = ["event", ["zone.enter", {"zone": "Tür", "time_s": 1.5}]]
EXIT: list[Any] = ["event", ["zone.exit", {"zone": "Tür", "time_s": 2.5}]]


def types(platform: Platform) -> list[str]:
    """The types of what the app has been told."""
    return [event.type for event in platform.events]


def beats(platform: Platform) -> list[AttemptHeartbeat]:
    """The heartbeats that brought events."""
    told = [AttemptHeartbeat.model_validate_json(s.body) for s in platform.requests("heartbeat")]
    return [heartbeat for heartbeat in told if heartbeat.events]


def test_events_arrive_while_the_run_goes_on(
    platform: Platform, host: RunHost, tmp_path: Path
) -> None:
    """A heartbeat brings them long before the run ends, with their data and in order."""
    do(platform, ENTER, EXIT, ["wait_for", str(tmp_path / "go")], ENTER)
    with meanwhile(lambda: run_attempt(host, platform.attempt_id)):
        platform.wait_for(lambda: len(platform.events) == 2)
        assert platform.finished is None
        (tmp_path / "go").touch()
    assert types(platform) == ["zone.enter", "zone.exit", "zone.enter"]
    assert [event.sequence for event in platform.events] == [1, 2, 3]
    assert platform.events[1].data == {"zone": "Tür", "time_s": 2.5}
    assert platform.outcome.outcome == "succeeded"


def test_the_rest_comes_before_the_report(platform: Platform, host: RunHost) -> None:
    """A run that ends before the next heartbeat is due loses none."""
    host.timings = Timings(progress_spacing=60)
    do(platform, ENTER, EXIT)
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert types(platform) == ["zone.enter", "zone.exit"]
    routes = [seen.route for seen in platform.seen]
    assert routes.index("finish") > max(i for i, r in enumerate(routes) if r == "heartbeat")


def test_no_heartbeat_is_hurried_by_many_events(platform: Platform, host: RunHost) -> None:
    """However many there are, heartbeats keep their distance and bring many at once."""
    host.timings = Timings(progress_spacing=60)
    do(platform, ["events", 1200])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert [len(heartbeat.events) for heartbeat in beats(platform)] == [500, 500, 200]
    assert [event.data["track_id"] for event in platform.events] == list(range(1200))


def test_large_events_are_sent_a_few_at_a_time(platform: Platform, host: RunHost) -> None:
    """A heartbeat stays far below what the API reads."""
    host.timings = Timings(progress_spacing=60)
    do(platform, *[["event", ["ocr.text", {"text": "ü" * 2000}]]] * 100)
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert len(platform.events) == 100
    assert max(len(seen.body) for seen in platform.requests("heartbeat")) < 132 * 1024


@pytest.mark.parametrize("faults", [[LOST], [LOST, 503, LOST], [500, 429]])
def test_repeated_after_a_lost_answer(
    platform: Platform, host: RunHost, faults: list[int | str]
) -> None:
    """What was not answered is told again, and the app knows it by its number."""
    platform.spec["heartbeat_seconds"] = 0.05
    platform.faults["heartbeat"] = [*faults]
    do(platform, ENTER, ["work", 0.5], EXIT)
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert types(platform) == ["zone.enter", "zone.exit"]
    assert len(beats(platform)) > 2


@pytest.mark.parametrize("status", [413, 422])
def test_refused_events_cost_no_lease(platform: Platform, host: RunHost, status: int) -> None:
    """Events that an older app, say, cannot read are given up; the run and its result stay."""
    platform.faults["heartbeat"] = [status]
    do(platform, ENTER, ["work", 1], EXIT, ["artifact", "still.png"])
    platform.spec["heartbeat_seconds"] = 0.2
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert types(platform) == ["zone.exit"]
    assert content(platform, "still.png")


def test_refused_at_the_end(platform: Platform, host: RunHost) -> None:
    """The same of the last ones: the report follows all the same."""
    host.timings = Timings(progress_spacing=60)
    platform.faults["heartbeat"] = [422]
    do(platform, ["events", 600])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert len(platform.events) == 100


def test_more_than_the_limit(platform: Platform, host: RunHost) -> None:
    """What is too much is counted, and one last event says so."""
    do(platform, ["events", MOST_EVENTS + 7], ENTER)
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert len(platform.events) == MOST_EVENTS
    last = platform.events[-1]
    assert (last.type, last.data) == (DROPPED, {"dropped": 9, "limit": MOST_EVENTS - 1})
    assert platform.events[-2].data == {"track_id": MOST_EVENTS - 2}


def test_a_failed_run_has_told_what_it_saw(platform: Platform, host: RunHost) -> None:
    """Whatever ends a run, what it had seen before is told."""
    host.timings = Timings(progress_spacing=60)
    for steps, outcome in (
        ([ENTER, ["crash", "oh"]], "failed"),
        ([ENTER, ["kill_itself", 0]], "failed"),
        ([ENTER, ["fail", ["NO_VIDEO_STREAM", "No.", True]]], "failed"),
    ):
        platform.new_attempt()
        do(platform, *steps)
        assert run_attempt(host, platform.attempt_id) == outcome
        assert types(platform) == ["zone.enter"]


def test_a_cancelled_run_has_told_what_it_saw(platform: Platform, host: RunHost) -> None:
    """A cancelled run's events arrive before its report; one told to stop tells no more."""
    platform.spec |= {"pipeline": "thorough", "heartbeat_seconds": 0.2}
    do(platform, ENTER, ["work_then", [EXIT]])

    def cancel() -> None:
        platform.wait_for(lambda: platform.requests("heartbeat"))
        platform.cancel_requested = True

    with meanwhile(cancel):
        assert run_attempt(host, platform.attempt_id) == "cancelled"
    assert types(platform) == ["zone.enter"]


@pytest.mark.parametrize(
    "step",
    [
        ["event", ["job.succeeded", {}]],
        ["event", ["zone", {}]],
        ["event", ["zone.enter", {"text": "x" * 5000}]],
        ["event_at", "nan"],
    ],
)
def test_bad_events_fail_the_run(platform: Platform, host: RunHost, step: list[Any]) -> None:
    """A pipeline that tells what cannot be kept is wrong, and its log says where."""
    do(platform, step)
    assert run_attempt(host, platform.attempt_id) == "failed"
    assert platform.outcome.code == "PIPELINE_ERROR"
    assert "ValueError: The event" in content(platform, "run.log").decode()
    assert platform.events == []


@pytest.mark.parametrize(
    "event",
    [
        '"event": "job.succeeded", "data": {}',
        '"event": 7, "data": {}',
        '"event": "zone.enter", "data": null',
        '"event": "zone.enter", "data": {"a": NaN}',
    ],
)
def test_a_host_is_not_believed(platform: Platform, host: RunHost, event: str) -> None:
    """A process that was taken over tells nothing that the interface would have refused."""
    do(platform, ["babble_json", f'{{"type": "Detected", {event}}}'])
    assert run_attempt(host, platform.attempt_id) == "failed"
    assert platform.outcome.code == "INVALID_OUTPUT"
    assert "event that cannot be kept" in platform.outcome.message
    assert platform.events == []


def test_a_run_that_begins_again_says_so(platform: Platform, host: RunHost) -> None:
    """After a second try for want of memory readers know that the first one's do not count."""
    do(platform, ENTER, ["exhaust_memory", 1], EXIT)
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert types(platform) == ["zone.enter", RESTARTED, "zone.enter", "zone.exit"]
    assert platform.events[1].data == {"events_before": 1}


def test_a_first_try_without_events_is_nothing_to_tell(platform: Platform, host: RunHost) -> None:
    """Pipelines that tell no events have none when they begin again."""
    do(platform, ["exhaust_memory", 1])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert platform.events == []


def leave_undelivered(platform: Platform, host: RunHost) -> Path:
    """Finish a run of two events while the API takes nothing; its folder."""
    do(platform, ENTER, EXIT)
    patience, timings = host.patience, host.timings
    host.patience = replace(patience, finish=BRIEF, log_upload=BRIEF)
    host.timings = Timings(progress_spacing=60)
    platform.faults["heartbeat"] = [503] * 1000
    assert run_attempt(host, platform.attempt_id) == "undelivered"
    host.patience, host.timings = patience, timings
    platform.faults.clear()
    (folder,) = host.work_root.glob("run-*")
    return folder


def test_events_outlive_an_outage(platform: Platform, host: RunHost) -> None:
    """What could not be told is on disk with the outcome, and told with it."""
    folder = leave_undelivered(platform, host)
    assert [event.type for event in spool.load(folder).events] == ["zone.enter", "zone.exit"]
    assert platform.events == []
    assert deliver_spooled(host, folder) == "succeeded"
    assert types(platform) == ["zone.enter", "zone.exit"]


def test_told_twice_after_an_outage(platform: Platform, host: RunHost) -> None:
    """The second delivery of the same outcome adds nothing, whatever the first one had reached."""
    folder = leave_undelivered(platform, host)
    platform.faults["heartbeat"] = [LOST]
    platform.faults["finish"] = [LOST]
    assert deliver_spooled(host, folder) == "succeeded"
    assert types(platform) == ["zone.enter", "zone.exit"]


def test_a_report_that_had_arrived_is_found_out(platform: Platform, host: RunHost) -> None:
    """If events come too late because the report was there before, the report still counts."""
    folder = leave_undelivered(platform, host)
    platform.faults["heartbeat"] = [Reply(409, b'{"code": "ATTEMPT_SUPERSEDED"}')] * 100
    assert deliver_spooled(host, folder) == "succeeded"
    assert platform.events == []


def test_an_outcome_of_an_older_worker(platform: Platform, host: RunHost) -> None:
    """What a worker without events has left on disk is still read."""
    folder = leave_undelivered(platform, host)
    outcome = folder / spool.OUTCOME
    old = spool.load(folder).model_dump_json(exclude={"events"})
    outcome.write_text(old, encoding="utf-8")
    assert deliver_spooled(host, folder) == "succeeded"
    assert platform.events == []


def test_batches_end_where_they_should() -> None:
    """A batch is forgotten once, and what came meanwhile stays."""
    outbox = EventOutbox()
    assert not outbox
    assert outbox.next_batch() == []
    outbox.add("zone.enter", {})
    first = outbox.next_batch()
    outbox.add("zone.exit", {})
    outbox.done_with(first)
    outbox.done_with(first)
    outbox.done_with([])
    assert [event.sequence for event in outbox.unsent] == [2]
    outbox.close()
    assert [event.sequence for event in outbox.next_batch()] == [2]
    outbox.done_with(outbox.next_batch())
    assert not outbox


def test_there_is_room_to_say_that_it_begins_again() -> None:
    """However many events there were, and however often: in the numbers that the app takes."""
    outbox = EventOutbox()
    for _ in range(MOST_EVENTS + 5):
        outbox.add("zone.enter", {})
    for _ in range(3):
        outbox.begin_again()
        outbox.add("zone.enter", {})
    outbox.close()
    assert [event.sequence for event in outbox.unsent] == list(range(1, MOST_EVENTS + 2))
    *_, told, last = outbox.unsent
    assert (told.type, told.data) == (RESTARTED, {"events_before": MOST_EVENTS - 1})
    assert (last.type, last.data["dropped"]) == (DROPPED, 9)


def test_stopping_ends_an_outage_of_the_end(platform: Platform, host: RunHost) -> None:
    """A worker that has to end does not wait for the API to take the last events."""
    host.timings = Timings(progress_spacing=60)
    platform.faults["heartbeat"] = [503] * 10000
    do(platform, ENTER)

    def stop() -> None:
        until(lambda: len(platform.requests("heartbeat")) > 1)
        host.shut_down()

    with meanwhile(stop):
        assert run_attempt(host, platform.attempt_id) == "undelivered"
    (folder,) = host.work_root.glob("run-*")
    assert len(spool.load(folder).events) == 1
