"""What `sf3d` tells where something is missing or goes wrong."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from drawn_pictures import ball, encode, scene
from sf3d_runs import ROOT, Installation, environment, installed, reasons

from tests.support.sf3d import make_python, make_weights, site_of

Settings = dict[str, str]
BALL = encode(scene(ball))
LICENCE = (
    "The licence of the weights (Stability AI Community License) has not been accepted: "
    "read it and set SF3D_LICENCE_ACCEPTED=true."
)
MISMATCH = ("failed", "WEIGHTS_MISMATCH", True)


@pytest.fixture
def own_python(tmp_path: Path) -> Path:
    """A stand-in's Python to break."""
    return make_python(tmp_path / "own")


@pytest.fixture
def behaving(
    stand_in_settings: Settings, tmp_path: Path
) -> Callable[..., AbstractContextManager[Installation]]:
    """Makes a worker whose stand-in behaves in some way."""

    def make(behaviour: str, **config: Any) -> AbstractContextManager[Installation]:
        weights = make_weights(tmp_path / "weights", behaviour=behaviour, **config)
        return installed(tmp_path, **{**stand_in_settings, "SF3D_MODEL": str(weights)})

    return make


# --- what the doctor says ------------------------------------------------------------------------


def test_a_whole_installation_can_run(stand_in_settings: Settings) -> None:
    """There is nothing to complain about."""
    assert reasons(**stand_in_settings) == []


def test_without_any_setting_all_of_it_is_told() -> None:
    """Licence, interpreter and weights are each named with what to do."""
    told = reasons()
    assert len(told) == 3
    for text in ("SF3D_LICENCE_ACCEPTED=true", "SF3D_PYTHON is not set", "set HF_TOKEN"):
        assert any(text in reason for reason in told), told


@pytest.mark.parametrize("missing", ["rembg", "transformers", "pynanoinstantmeshes"])
def test_a_missing_package_is_named(
    stand_in_settings: Settings, own_python: Path, missing: str
) -> None:
    """By the name that pip knows."""
    (site_of(own_python) / f"{missing}.py").unlink()
    told = reasons(**{**stand_in_settings, "SF3D_PYTHON": str(own_python)})
    assert told == [f"The Python package '{missing}' is not installed in SF3D_PYTHON."]


def test_a_missing_checkout_is_told(stand_in_settings: Settings, own_python: Path) -> None:
    """Upstream's own module cannot be imported without the line in the .pth file."""
    (site_of(own_python) / "sf3d.pth").unlink()
    (told,) = reasons(**{**stand_in_settings, "SF3D_PYTHON": str(own_python)})
    assert "'sf3d' cannot be imported" in told


def test_an_extension_that_is_not_built_is_told(
    stand_in_settings: Settings, own_python: Path
) -> None:
    """The folder of the same name in upstream's checkout is not taken for it."""
    shutil.rmtree(site_of(own_python) / "texture_baker")
    (told,) = reasons(**{**stand_in_settings, "SF3D_PYTHON": str(own_python)})
    assert "'texture_baker' is not built" in told


def test_an_extension_without_cuda_is_told(stand_in_settings: Settings, own_python: Path) -> None:
    """It matters only where a GPU is to be used."""
    settings = {**stand_in_settings, "SF3D_PYTHON": str(own_python)}
    (site_of(own_python) / "texture_baker" / "_C.so").write_bytes(b"\x7fELF .text")
    assert reasons(**settings) == []
    told = reasons(**{**settings, "SF3D_USE_CPU": "0"})
    assert any("'texture_baker' is built without CUDA" in reason for reason in told), told


def test_a_torch_without_cuda_is_told(stand_in_settings: Settings, own_python: Path) -> None:
    """By what torch itself says of its build."""
    settings = {**stand_in_settings, "SF3D_PYTHON": str(own_python), "SF3D_USE_CPU": ""}
    text = "The torch of SF3D_PYTHON is built without CUDA."
    assert text not in reasons(**settings)
    version = site_of(own_python) / "torch" / "version.py"
    version.write_text(version.read_text().replace("'12.1'", "None").replace('"12.1"', "None"))
    assert text in reasons(**settings)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "has no file 'model.safetensors'"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "only a Git LFS pointer"),
        (b"<html>not found</html>", "is no safetensors file"),
        (b"", "is no safetensors file"),
        (b"\x02\0\0\0\0\0\0\0[]", "is no safetensors file"),
    ],
)
def test_weights_that_are_none_are_told(
    stand_in_settings: Settings, tmp_path: Path, content: bytes | None, problem: str
) -> None:
    """A pointer, an error page and an empty file are not taken for weights."""
    folder = make_weights(tmp_path / "weights")
    (folder / "model.safetensors").unlink()
    if content is not None:
        (folder / "model.safetensors").write_bytes(content)
    (told,) = reasons(**{**stand_in_settings, "SF3D_MODEL": str(folder)})
    assert problem in told
    assert str(tmp_path) not in told


def test_half_a_download_is_told(stand_in_settings: Settings, tmp_path: Path) -> None:
    """The header says how long the file should be."""
    path = make_weights(tmp_path / "weights") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    (told,) = reasons(**{**stand_in_settings, "SF3D_MODEL": str(path.parent)})
    assert "is not whole" in told


def test_what_the_hub_needs_is_told(stand_in_settings: Settings, tmp_path: Path) -> None:
    """A token, or the weights in the cache; neither is asked for if the other is there."""
    settings = {**stand_in_settings, "SF3D_MODEL": "owner/name", "HF_HOME": str(tmp_path)}
    (told,) = reasons(**settings)
    assert "https://huggingface.co/owner/name" in told
    assert reasons(**settings, HF_TOKEN="hf_x") == []
    (told,) = reasons(**settings, HF_TOKEN="hf_x", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE" in told
    (tmp_path / "token").write_text("hf_x\n")
    assert reasons(**settings) == []
    (tmp_path / "token").unlink()
    make_weights(tmp_path / "hub" / "models--owner--name" / "snapshots" / "0a1b")
    assert reasons(**settings, HF_HUB_OFFLINE="1") == []
    (told,) = reasons(**{**settings, "SF3D_MODEL": "/no/such/folder"})
    assert told.startswith("SF3D_MODEL names neither")


def test_a_python_that_does_not_start_is_told() -> None:
    """An interpreter that is not there is a reason, not a crash."""
    (told,) = reasons(SF3D_PYTHON="/no/such/python")
    assert "/no/such/python cannot be started" in told


def test_asking_imports_nothing(stand_in_settings: Settings) -> None:
    """Neither torch nor numpy nor anything else of the other Python is loaded by the question."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "from worker_vm.pipelines.registry import load_pipeline\n"
        "assert load_pipeline('sf3d').unavailable_reasons() == []\n"
        "ours = ('worker_vm', 'contract')\n"
        "print([name for name in sorted(set(sys.modules) - before)\n"
        "    if name.partition('.')[0] not in sys.stdlib_module_names\n"
        "    and not name.startswith(ours)])"
    )
    done = subprocess.run(
        [stand_in_settings["SF3D_PYTHON"], "-c", code],
        cwd=ROOT, env=environment(**stand_in_settings), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_the_doctor_demands_it(stand_in_settings: Settings, tmp_path: Path) -> None:
    """`doctor --require sf3d` exits with 1 and every reason, and with 0 where there is none."""
    worker = {
        "REDIS_URL": "redis://localhost:1/0",
        "API_URL": "http://localhost:1",
        "WORKER_API_KEY": "wk_0123456789",
    }

    def doctor(**settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "worker_vm", "doctor", "--require", "sf3d"],
            cwd=tmp_path, env=environment(**worker, **settings), capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    done = doctor(**{**stand_in_settings, "SF3D_LICENCE_ACCEPTED": "", "SF3D_MODEL": str(tmp_path)})
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    (row,) = [number for number, line in enumerate(lines) if line.startswith("sf3d ")]
    assert lines[row].split() == ["sf3d", "1.0.0", "cannot", "run"]
    assert [line.strip() for line in lines[row + 1 : row + 4]] == [
        f"- {LICENCE}",
        "- The folder of SF3D_MODEL has no file 'config.yaml'.",
        "- The folder of SF3D_MODEL has no file 'model.safetensors'.",
    ]
    assert lines[-1] == "Cannot run: sf3d."
    assert doctor(**stand_in_settings).returncode == 0


# --- while the weights are loaded ----------------------------------------------------------------


def test_weights_of_another_model_fail_for_good(
    stand_in_settings: Settings, tmp_path: Path
) -> None:
    """A sentence says that these weights and this model do not belong together."""
    weights = make_weights(tmp_path / "weights", tensor="unet.weight")
    with installed(tmp_path, **{**stand_in_settings, "SF3D_MODEL": str(weights)}) as worker:
        ended = worker.run(BALL).ended
    assert (ended.outcome, ended.code, ended.permanent) == MISMATCH
    assert "loading state_dict for SF3D: Missing key(s)" in ended.message


def test_a_broken_configuration_fails_for_good(stand_in_settings: Settings, tmp_path: Path) -> None:
    """As does a config.yaml that is none."""
    weights = make_weights(tmp_path / "weights")
    (weights / "config.yaml").write_text("}")
    with installed(tmp_path, **{**stand_in_settings, "SF3D_MODEL": str(weights)}) as worker:
        ended = worker.run(BALL).ended
    assert (ended.outcome, ended.code, ended.permanent) == MISMATCH


@pytest.mark.parametrize(
    ("raised", "code", "permanent"),
    [
        ("GatedRepoError", "WEIGHTS_MISSING", True),
        ("RepositoryNotFoundError", "WEIGHTS_MISSING", True),
        ("EntryNotFoundError", "WEIGHTS_MISSING", True),
        ("LocalEntryNotFoundError", "WEIGHTS_UNREACHABLE", False),
    ],
)
def test_what_the_hub_refuses(
    stand_in_settings: Settings, tmp_path: Path, raised: str, code: str, *, permanent: bool
) -> None:
    """A refusal is for good; a hub that cannot be reached is not."""
    settings = {
        **stand_in_settings, "SF3D_MODEL": "owner/name", "HF_TOKEN": "hf_x", "STAND_IN_HUB": raised
    }  # fmt: skip
    with installed(tmp_path, **settings) as worker:
        ended = worker.run(BALL).ended
    assert (ended.outcome, ended.code, ended.permanent) == ("failed", code, permanent)


def test_an_extension_without_cuda_fails_before_the_weights(
    stand_in_settings: Settings, own_python: Path, tmp_path: Path
) -> None:
    """Also where the doctor cannot see it: the baker is tried on the device."""
    (site_of(own_python) / "texture_baker" / "_C.so").write_bytes(b"\x7fELF .text")
    settings = {**stand_in_settings, "SF3D_PYTHON": str(own_python), "STAND_IN_CUDA": "1"}
    told = upstream(settings, tmp_path)
    assert told["failed"][0] == "SF3D_NOT_USABLE"
    assert "USE_CUDA=1" in told["failed"][1]


def upstream(settings: Settings, folder: Path) -> dict[str, Any]:
    """Use the adapter itself in the other Python, where it may believe in a GPU."""
    code = """
import json, sys
from pathlib import Path
from PIL import Image
from worker_vm.pipelines.base import PipelineError
from worker_vm.pipelines.sf3d.settings import Settings
from worker_vm.pipelines.sf3d.upstream import Upstream, save_mesh
folder = Path(sys.argv[1])
picture = folder / "picture.png"
Image.new("RGBA", (64, 64), (200, 0, 0, 255)).save(picture)
try:
    model = Upstream(Settings.current())
    mesh = model.reconstruct(
        picture, texture_resolution=512, remesh="none", vertex_count=-1, seed=3)
    print(json.dumps({"facts": model.facts(), "peak": model.peak_bytes()}))
except PipelineError as error:
    print(json.dumps({"failed": [error.code, error.message]}))
"""
    done = subprocess.run(
        [settings["SF3D_PYTHON"], "-c", code, str(folder)],
        cwd=ROOT, env={**environment(**settings), "SF3D_USE_CPU": "0"}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


# --- in a run ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [("empty", "EMPTY_MESH"), ("not a number", "MESH_INVALID"), ("untextured", "MESH_INVALID")],
)
def test_a_mesh_that_is_none_fails_for_good(
    behaving: Callable[..., AbstractContextManager[Installation]], behaviour: str, code: str
) -> None:
    """Nothing is handed over of it."""
    with behaving(behaviour) as worker:
        done = worker.run(BALL)
    assert (done.ended.outcome, done.ended.code, done.ended.permanent) == ("failed", code, True)
    assert done.outcome.recorder.artifacts == {}


def test_out_of_memory_asks_for_a_smaller_texture(
    behaving: Callable[..., AbstractContextManager[Installation]],
) -> None:
    """2048 does not fit, 1024 does; the manifest says what was asked for."""
    with behaving("out of memory", fits=1024) as worker:
        done = worker.run(BALL, texture_resolution=2048)
    assert done.ended.outcome == "succeeded", done.ended
    assert len(done.restarts) == 2
    assert done.outcome.manifest["texture"]["size"] == 1024
    assert done.outcome.manifest["run"]["reduced_from"]["texture_resolution"] == 2048


def test_out_of_memory_for_good(
    behaving: Callable[..., AbstractContextManager[Installation]],
) -> None:
    """There is nothing smaller than the smallest."""
    with behaving("out of memory", fits=0) as worker:
        assert worker.run(BALL, texture_resolution=512).ended.outcome == "out_of_memory"


def test_no_normal_map_no_tangents(
    behaving: Callable[..., AbstractContextManager[Installation]],
) -> None:
    """A mesh without a normal map is fine."""
    with behaving("no normal map") as worker:
        done = worker.run(BALL, texture_resolution=512)
    assert done.ended.outcome == "succeeded", done.ended
    assert done.outcome.manifest["mesh"]["tangents"] is False


@pytest.fixture
def diary(tmp_path: Path) -> Iterator[Callable[[], dict[str, dict[str, Any]]]]:
    """What the stand-in was last asked, by the call's name."""

    def read() -> dict[str, dict[str, Any]]:
        lines = (tmp_path / "diary").read_text().splitlines()
        return {note["call"]: note for note in map(json.loads, lines)}

    return read


def test_what_upstream_is_asked(
    behaving: Callable[..., AbstractContextManager[Installation]],
    tmp_path: Path,
    diary: Callable[[], dict[str, dict[str, Any]]],
) -> None:
    """The picture is framed, the parameters are passed on, and the same seed draws the same."""
    with behaving("", diary=str(tmp_path / "diary")) as worker:
        asked = {"texture_resolution": 2048, "remesh": "quad", "vertex_count": 500, "seed": 9}
        worker.run(BALL, foreground_ratio=0.5, **asked)
        first = diary()
        worker.run(BALL, foreground_ratio=0.5, **asked)
    run = first["run_image"]
    assert run == diary()["run_image"]
    assert (run["bake_resolution"], run["remesh"], run["vertex_count"]) == (2048, "quad", 500)
    assert run["seed"] == 9
    assert run["grad"] is False
    assert run["autocast"] is None
    left, top, right, bottom = run["box"]
    assert max(right - left, bottom - top) == pytest.approx(0.5 * run["size"][0], abs=2)
    assert left + right == pytest.approx(run["size"][0], abs=2)
    assert first["from_pretrained"]["weight_name"] == "model.safetensors"
    assert first["to"]["device"] == "cpu"
    assert "eval" in first


def test_a_gpu_is_used_with_half_the_bits(
    stand_in_settings: Settings,
    tmp_path: Path,
    diary: Callable[[], dict[str, dict[str, Any]]],
) -> None:
    """bf16 autocast on CUDA, and the device's name and memory in the manifest."""
    weights = make_weights(tmp_path / "weights", diary=str(tmp_path / "diary"))
    settings = {**stand_in_settings, "SF3D_MODEL": str(weights), "STAND_IN_CUDA": "1"}
    told = upstream(settings, tmp_path)
    assert diary()["run_image"]["autocast"] == ["cuda", "bfloat16"]
    assert diary()["to"]["device"] == "cuda"
    assert told["facts"]["gpu"] == "Stand-in GPU"
    assert told["facts"]["precision"] == "bf16 autocast"
    assert told["peak"] == 6 << 30


def test_the_other_python_needs_none_of_our_packages(stand_in_settings: Settings) -> None:
    """What the stand-in's Python lacks is what the worker's own has to bring."""
    code = (
        "from importlib.util import find_spec\n"
        "print([name for name in ('cv2', 'numba', 'pydantic', 'scipy') if find_spec(name)])"
    )
    done = subprocess.run(
        [stand_in_settings["SF3D_PYTHON"], "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
