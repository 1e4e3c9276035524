"""The one call that a 3D pipeline ends with."""

import json
import sys
from pathlib import Path

import pytest
from inflate_runs import Recorder
from mesh_makers import change, glb_of, sphere

from contract.kinds import ArtifactKind
from devstack.node import node_command
from tests.support.gltf_validator import ROOT, SCRIPT
from worker_vm.meshes.formats import Format
from worker_vm.meshes.handover import hand_over
from worker_vm.pipelines.base import PipelineError, RunCancelledError


@pytest.fixture
def khronos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Khronos' validator, as an operator names it."""
    monkeypatch.setenv("GLTF_VALIDATOR", " ".join([*(node_command(ROOT) or []), str(SCRIPT)]))


@pytest.fixture
def glb(tmp_path: Path) -> Path:
    return glb_of(tmp_path / "model.glb", sphere(8))


def test_files_and_their_order(glb: Path) -> None:
    """The GLB comes first, being what a download gives; then its quality, then other formats."""
    recorder = Recorder()
    told = hand_over(glb, recorder, [Format.STL, Format.PLY])
    assert recorder.order == ["model.glb", "quality.json", "model.ply", "model.stl"]
    assert recorder.artifacts["quality.json"][0] == ArtifactKind.ANALYTICS
    kinds = {name: item[0] for name, item in recorder.artifacts.items() if name != "quality.json"}
    assert set(kinds.values()) == {ArtifactKind.MODEL_3D}
    assert json.loads(recorder.artifacts["quality.json"][1].read_text()) == told
    assert told["file"] == "model.glb"
    assert told["valid"] is True


def test_glb_is_always_made(glb: Path) -> None:
    """Without other formats, and with others only, there is a GLB."""
    for formats, more in (([], set()), ([Format.STL], {"model.stl"})):
        recorder = Recorder()
        hand_over(glb, recorder, formats)
        assert set(recorder.order) == {"model.glb", "quality.json"} | more


def test_without_a_validator(glb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none is installed the file says so, and the worker's own check has been done."""
    monkeypatch.delenv("GLTF_VALIDATOR", raising=False)
    told = hand_over(glb, Recorder())["validator"]
    assert told["checked"] is False
    assert "GLTF_VALIDATOR is not set" in told["reason"]


@pytest.mark.usefixtures("khronos")
def test_with_the_validator(glb: Path) -> None:
    """What Khronos' validator says stands in the file."""
    told = hand_over(glb, Recorder())["validator"]
    assert told["checked"] is True
    assert told["reason"] is None
    assert told["version"].startswith("2.0.0")
    assert (told["errors"], told["warnings"], told["messages"]) == (0, 0, [])


def test_broken_results_are_no_artifacts(glb: Path) -> None:
    """A GLB of broken structure fails the run by what is wrong, and no file is handed over."""
    change(glb, lambda document, _: document["accessors"][0].update(count=10**6))
    recorder = Recorder()
    with pytest.raises(PipelineError) as caught:
        hand_over(glb, recorder, [Format.OBJ])
    assert caught.value.code == "INVALID_OUTPUT"
    assert caught.value.message == (
        "The pipeline made a result that cannot be kept: "
        "model.glb has an accessor (0) that ends outside its buffer view."
    )
    assert recorder.order == []
    assert not (glb.parent / "quality.json").exists()


@pytest.mark.usefixtures("khronos")
def test_what_only_the_validator_finds(glb: Path) -> None:
    """A file that Khronos' validator refuses fails the run, too, with its words."""
    change(glb, lambda document, _: document["nodes"][0].update(rotation=[0.0, 0.0, 0.0, 0.9]))
    recorder = Recorder()
    with pytest.raises(PipelineError) as caught:
        hand_over(glb, recorder)
    assert caught.value.code == "INVALID_OUTPUT"
    assert "fails Khronos' validator: ROTATION_NON_UNIT /nodes/0/rotation" in caught.value.message
    assert recorder.order == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("/nowhere/gltf_validator", "did not run (FileNotFoundError)"),
        (f"{sys.executable} -c print('[]')", "gave no report (status 0)"),
        (f"{sys.executable} -c raise(SystemExit(7))", "gave no report (status 7)"),
    ],
)
def test_validator_that_does_not_work(
    glb: Path, monkeypatch: pytest.MonkeyPatch, command: str, words: str
) -> None:
    """A validator that is broken is no fault of the file: it counts as not checked, with why."""
    monkeypatch.setenv("GLTF_VALIDATOR", command)
    recorder = Recorder()
    told = hand_over(glb, recorder)["validator"]
    assert told["checked"] is False
    assert words in told["reason"]
    assert "model.glb" in recorder.order


def test_cancelling_passes_through(glb: Path) -> None:
    """What the reporter raises reaches the pipeline unchanged."""

    class Stopping(Recorder):
        def artifact(self, *_: object) -> None:
            raise RunCancelledError

    with pytest.raises(RunCancelledError):
        hand_over(glb, Stopping())
