"""A run that makes another job's result again says in its manifest whether it did."""

import hashlib
import json
from typing import Any

import pytest
from fake_platform import Platform
from worker_support import content, do, meanwhile, names

from worker_vm.runner import RunHost, run_attempt

SAME = hashlib.sha256(b"content of model.glb").hexdigest()
OTHER = hashlib.sha256(b"another model").hexdigest()
MODEL = ["model", "model.glb"]


def manifest(platform: Platform, name: str = "manifest.json") -> Any:
    """What the run's manifest says."""
    return json.loads(content(platform, name))


def run(platform: Platform, host: RunHost, *steps: list[Any]) -> Any:
    """The section of a successful run's manifest."""
    do(platform, *steps)
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    return manifest(platform)["reproduction"]


def here(**sections: Any) -> list[str]:
    """The step that makes a manifest of these sections."""
    return ["manifest", json.dumps(sections)]


@pytest.mark.parametrize("steps", [[MODEL, here(mesh=1)], [here(mesh=1), MODEL]])
def test_equal(platform: Platform, host: RunHost, steps: list[list[str]]) -> None:
    """The same bytes are equal, whatever else differs and whichever file comes first."""
    of = platform.add_original(SAME, b'{"libraries": {"numpy": "1"}}')
    assert run(platform, host, *steps) == {"of": str(of), "bit_equal": True, "differs": []}
    told = manifest(platform)
    assert told["mesh"] == 1
    assert "params" in told["run"]
    assert names(platform) == ["model.glb", "manifest.json", "run.log"]
    assert len(platform.outcome.artifact_ids) == 2


def test_what_differs(platform: Platform, host: RunHost) -> None:
    """Other bytes come with every cause that the two manifests name, and no consequence."""
    original = {
        "libraries": {"numpy": "1", "scipy": "2", "gone": "3"},
        "seed": 7,
        "input": {"sha256": "aa"},
        "device": "cuda",
        "seconds": {"all": 1.5},
        "glb": {"sha256": OTHER},
    }
    platform.add_original(OTHER, json.dumps(original).encode())
    libraries = {"numpy": "1", "scipy": "2.1", "new": "x" * 1000}
    section = run(
        platform,
        host,
        MODEL,
        here(libraries=libraries, seed=7, input={"sha256": "aa"}, seconds={"all": 9}),
    )
    assert section["bit_equal"] is False
    told = {item["what"]: (item["original"], item["here"]) for item in section["differs"]}
    assert told["sha256"] == (OTHER, SAME)
    assert told["libraries.scipy"] == ("2", "2.1")
    assert told["libraries.gone"] == ("3", None)
    assert told["libraries.new"] == (None, f"{'x' * 300}…")
    assert told["device"] == ("cuda", None)
    rest = told.keys() - {"sha256", "device"}
    assert all(name.startswith(("libraries.", "run.")) for name in rest), "what follows is no cause"
    assert {"libraries.numpy", "seed", "input.sha256"}.isdisjoint(told)


@pytest.mark.parametrize(
    ("data", "changes"),
    [
        (None, {}),
        (b"no json", {}),
        (b"[1]", {}),
        (b"[" * 100_000, {}),
        (b"{}", {"etag": "0" * 32}),
        (b"{}", {"size_bytes": 1 << 40}),
    ],
)
def test_no_original_manifest(
    platform: Platform, host: RunHost, data: bytes | None, changes: dict[str, Any]
) -> None:
    """Without the original's manifest the results are compared all the same."""
    platform.add_original(OTHER, data, **changes)
    section = run(platform, host, MODEL, here(seed=1))
    assert section["bit_equal"] is False
    assert [item["what"] for item in section["differs"]] == ["sha256", "manifest"]


def test_a_very_different_original(platform: Platform, host: RunHost) -> None:
    """What is told of a manifest that differs without end has an end, however deep it is."""
    deep: Any = 1
    for _ in range(200):
        deep = {"x": deep}
    original = {"libraries": {str(number): "1" for number in range(5000)}, "input": deep}
    platform.add_original(OTHER, json.dumps(original).encode())
    assert len(run(platform, host, MODEL, here(seed=1))["differs"]) == 101


@pytest.mark.parametrize("text", [None, "[1]", "no json", "[" * 100_000])
def test_no_manifest_of_its_own(platform: Platform, host: RunHost, text: str | None) -> None:
    """A run whose pipeline makes no manifest, or one that is no object, gets one."""
    platform.add_original(SAME, b"{}")
    do(platform, MODEL, *([] if text is None else [["manifest", text]]))
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    name = "manifest.json" if text is None else "reproduction.json"
    assert manifest(platform, name)["reproduction"]["bit_equal"] is True
    if text is not None:
        assert content(platform, "manifest.json").decode() == text


def test_a_failed_run_compares_nothing(platform: Platform, host: RunHost) -> None:
    """What failed has no result; there is nothing to be said of it."""
    platform.add_original(SAME, b"{}")
    do(platform, MODEL, here(seed=1), ["fail", ["INVALID_OUTPUT", "It is not closed.", True]])
    assert run_attempt(host, platform.attempt_id) == "failed"
    assert (platform.outcome.code, platform.outcome.permanent) == ("INVALID_OUTPUT", True)
    assert names(platform) == ["run.log"]


def test_a_cancelled_run_keeps_its_manifest(platform: Platform, host: RunHost) -> None:
    """What a cancelled run says of itself is kept with its other files, and compares nothing."""
    platform.spec["pipeline"] = "thorough"
    platform.spec["heartbeat_seconds"] = 1
    platform.add_original(SAME, b"{}")

    def cancel() -> None:
        platform.wait_for(lambda: platform.requests("heartbeat"))
        platform.cancel_requested = True

    do(platform, ["work_then", [MODEL, here(seed=1)]])
    with meanwhile(cancel):
        assert run_attempt(host, platform.attempt_id) == "cancelled"
    assert names(platform) == ["model.glb", "manifest.json", "run.log"]
    assert manifest(platform).keys() == {"seed", "run"}
