"""A decoder that has been taken over, and tells what it likes; run as the confined child."""

import json
from typing import Any

from worker_vm.sandbox import confine, limits_from_argv, request_from_argv
from worker_vm.video.records import Record, send

STDOUT = 1
SIZE = {"width": 64, "height": 48, "upright_width": 64, "upright_height": 48}
BODY = bytes(64 * 48 * 3)
SOURCE = Record("source", {"frame_rate": 25})
DONE = Record("done", {})
RESTART = Record("restart", {})
JPEG = b"\xff\xd8\xff"
MOST_FRAMES = 3
MOST_PIXELS = 10_000
"""What the tests allow."""


def frame(at: int, pts: float, *, body: bytes = BODY, **facts: Any) -> Record:
    """A frame as it should be, but for what is said otherwise."""
    return Record("frame", {"number": at, "pts": pts, "share": 0, **SIZE, **facts}, body)


def picture(body: bytes = b"", **facts: Any) -> Record:
    """A frame of `video-frames`, by default the last one again."""
    return Record("frame", {"target": 0, "pts": 0, "share": 0, **facts}, body)


LIES: dict[str, list[Record]] = {
    "nothing": [],
    "no-frame": [SOURCE, Record("done", {})],
    "no-end": [SOURCE, frame(0, 0)],
    "no-number": [SOURCE, frame(0, 0, number=None)],
    "odd-size": [SOURCE, frame(0, 0, width=63, body=bytes(63 * 48 * 3))],
    "too-wide": [SOURCE, frame(0, 0, width=8192, height=2, body=bytes(8192 * 2 * 3))],
    "no-size": [SOURCE, frame(0, 0, width=0, body=b"")],
    "a-fraction": [SOURCE, frame(0, 0, width=63.5)],
    "no-picture": [SOURCE, frame(0, 0, upright_width=-1)],
    "short-frame": [SOURCE, frame(0, 0, body=BODY[:-1])],
    "backwards": [SOURCE, frame(0, 1), frame(1, 0.5)],
    "same-number": [SOURCE, frame(5, 1), frame(5, 2)],
    "other-size": [SOURCE, frame(0, 0), frame(1, 1, width=32, body=bytes(32 * 48 * 3))],
    "no-share": [SOURCE, frame(0, 0, share="much")],
    "unknown": [SOURCE, Record("hello", {})],
    "unknown-code": [Record("error", {"code": "SELF_DESTRUCT", "message": "boom"})],
    "too-tall": [SOURCE, frame(0, 0, width=2, height=16386, body=bytes(2 * 16386 * 3)), DONE],
    "too-many": [SOURCE, *(frame(at, at) for at in range(MOST_FRAMES + 1)), DONE],
    "far-away": [SOURCE, frame(0, 1e7), DONE],
    "after-the-end": [SOURCE, frame(0, 0), DONE, frame(1, 1)],
    "twice-the-end": [SOURCE, frame(0, 0), DONE, DONE],
    "hardly-moving": [Record("source", {"frame_rate": 1e-9}), frame(0, 0)],
    "wild-source": [Record("source", {"frame_rate": "fast"}), frame(0, 0), Record("sample", {})],
}

PICTURE_LIES: dict[str, list[Record]] = {
    "nothing-before": [SOURCE, picture(), DONE],
    "too-many-copies": [SOURCE, picture(JPEG), *[picture()] * MOST_FRAMES, DONE],
    "too-many-restarts": [SOURCE, *[RESTART] * 3, picture(JPEG), DONE],
    "restart-after-the-end": [SOURCE, picture(JPEG), DONE, RESTART],
    "late-copy": [SOURCE, picture(JPEG), DONE, picture()],
    "far-picture": [SOURCE, picture(JPEG, pts=-1e7), DONE],
    "far-target": [SOURCE, picture(JPEG, target=1e7), DONE],
    "too-large": [SOURCE, picture(JPEG + bytes(MOST_PIXELS * 4 + (8 << 20))), DONE],
}
"""Of `video-frames`."""


def main() -> None:
    """Tell the lie that the request's media type names; the test writes it there."""
    lie = json.loads(request_from_argv())["media_type"]
    confine(limits_from_argv())
    for record in {**LIES, **PICTURE_LIES}[lie]:
        send(STDOUT, record)


if __name__ == "__main__":
    main()
