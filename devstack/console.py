"""Lines on the terminal, coloured only where somebody sees it."""

import os
import re
import sys

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_COLOURS = (36, 35, 33, 32, 34, 31)
_RESET = "\x1b[0m"


def coloured() -> bool:
    """Whether standard output shows colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


class LogPrinter:
    """Prints lines of several processes, each behind its name in its colour."""

    def __init__(self, names: list[str]) -> None:
        self._width = max(map(len, names))
        self._colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(names)}
        self._coloured = coloured()

    def print(self, name: str, line: str) -> None:
        """One line."""
        prefix = f"{name:<{self._width}} │"
        if self._coloured:
            print(f"\x1b[{self._colours[name]}m{prefix}{_RESET} {line}{_RESET}", flush=True)
        else:
            print(prefix, _ANSI.sub("", line), flush=True)
