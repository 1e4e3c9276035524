"""The peers' own Python environments, kept in `.bench/`, which git ignores."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".bench" / "venvs"

REQUIREMENTS = {
    # RQ's workers and ours get the same RQ, so that only the worker differs.
    "rq": (f"rq=={version('rq')}", f"redis=={version('redis')}"),
    "celery": ("celery[redis]==5.7.0", f"redis=={version('redis')}"),
    "dramatiq": ("dramatiq[redis]==2.2.1", f"redis=={version('redis')}"),
}


def binaries(name: str) -> Path:
    """Where an environment's programs are; made if it is not there as required."""
    folder = CACHE / name
    wanted = "\n".join((sys.version, *REQUIREMENTS[name]))
    done = folder / "requirements.txt"
    if not done.exists() or done.read_text() != wanted:
        print(
            f"Installing {', '.join(REQUIREMENTS[name])} in {folder.relative_to(CACHE.parents[1])}"
        )
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *REQUIREMENTS[name]], check=True)
        done.write_text(wanted)
    return folder / "bin"
