"""`python -m devstack up | demo | migrate | env`."""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from devstack.demo import default_output, demo
from devstack.demo_video import demo_video
from devstack.errors import DevstackError
from devstack.settings import ROOT, app_environment, user_settings
from devstack.stack import Stack
from devstack.up import DATA, only_one, running_addresses, up


def migrate() -> int:
    """Upgrade the user's own database, that of a running `make up`, or the one it keeps."""
    settings = user_settings()
    running = running_addresses()
    if settings.get("DATABASE_URL") or running:
        settings = running | {name: value for name, value in settings.items() if value}
        command = [sys.executable, "-m", "alembic", "upgrade", "head"]
        return subprocess.run(
            command, cwd=ROOT, env=app_environment(settings), check=False
        ).returncode
    with only_one(DATA):
        stack = Stack(DATA, settings=settings, external=True)
        assert stack.postgres is not None
        try:
            for server in stack.servers:
                server.start()
            print(stack.run_once("migrate", "alembic", "upgrade", "head"), end="")
        finally:
            stack.stop()
    return 0


def show_env() -> int:
    """Print the addresses of the running `make up`, for `eval`."""
    running = running_addresses()
    if not running:
        raise DevstackError("`make up` does not run.")
    for name, value in running.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m devstack", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "up", help="run the whole stack until Ctrl-C; its data is kept in .devstack"
    )
    trial = commands.add_parser("demo", help="turn a picture into a 3D model on a fresh stack")
    trial.add_argument("--image", type=Path, help="your own picture; PNG, JPEG or WebP")
    trial.add_argument("--output", type=Path, default=default_output(), help="default: %(default)s")
    trial = commands.add_parser("demo-video", help="look at a video on a fresh stack")
    trial.add_argument("--video", type=Path, help="your own video; MP4, MOV, MKV, WebM, AVI …")
    trial.add_argument("--output", type=Path, default=default_output(), help="default: %(default)s")
    commands.add_parser("migrate", help="bring the database up to date")
    commands.add_parser("env", help="print the addresses of the running stack, for `eval`")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    options = parser().parse_args(arguments)
    try:
        match options.command:
            case "up":
                return up()
            case "demo":
                return demo(options.image, options.output)
            case "demo-video":
                return demo_video(options.video, options.output)
            case "migrate":
                return migrate()
            case _:
                return show_env()
    except DevstackError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
