"""Frames of every kind of video are exactly those that a full decode shows."""

import io
from fractions import Fraction
from pathlib import Path

import pytest
from frames_runs import AS_IT_IS, take_frames, take_frames_by_ranges
from PIL import Image
from video_clips import CLIPS, all_frames, by_fps_filter, on_screen

from tests.support.range_storage import RangeStorage

TOO_SHORT = {"short", "one-frame"}
"""Shorter than half a second: FFmpeg's filter makes nothing of them at one frame a second."""


@pytest.fixture(scope="module", params=sorted(CLIPS))
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = CLIPS[request.param]
    return made.write(tmp_path_factory.mktemp("clip") / f"{request.param}.{made.suffix}")


def test_same_frames_as_ffmpeg(clip: Path, tmp_path: Path) -> None:
    """With ffmpeg_near the frames are those that FFmpeg's filter picks, bit by bit."""
    fps = "25" if clip.stem in TOO_SHORT else "3"
    expected = by_fps_filter(clip, fps)
    run = take_frames(clip, tmp_path / "run", fps=int(fps), sample="ffmpeg_near", **AS_IT_IS)
    assert expected
    assert run.md5s == expected


def test_frames_on_screen_at_the_time(clip: Path, tmp_path: Path) -> None:
    """With at_time each frame is the one on screen at its moment; the manifest says since when."""
    run = take_frames(clip, tmp_path / "run", fps=2, **AS_IT_IS)
    truth = all_frames(clip)
    frames = run.manifest["frames"]
    shown = [on_screen(truth, Fraction(number, 2)) for number in range(len(frames))]
    assert run.md5s == [frame.md5 for frame in shown]
    assert [frame["target_s"] for frame in frames] == [number / 2 for number in range(len(frames))]
    assert [frame["pts_s"] for frame in frames] == [
        pytest.approx(float(frame.seconds), abs=1e-5) for frame in shown
    ]
    # Every moment up to the last frame has been answered.
    assert len(frames) >= int(truth[-1].seconds * 2) + 1
    assert run.manifest["damage"] is None


def test_every_frame(clip: Path, tmp_path: Path) -> None:
    """At fps 0 every frame is there, in order."""
    run = take_frames(clip, tmp_path / "run", fps=0, **AS_IT_IS)
    assert run.md5s == [frame.md5 for frame in all_frames(clip)]


def test_only_avi_is_decoded_in_full(clip: Path, tmp_path: Path) -> None:
    """Decoding is selective wherever the container knows when frames are shown."""
    run = take_frames(clip, tmp_path / "run", **{**AS_IT_IS, "format": "jpg"}, max_frames=2)
    wanted = "full" if clip.stem == "h264-in-avi" else "selective"
    assert run.manifest["decoding"] == wanted


def test_same_frames_out_of_storage(clip: Path, tmp_path: Path) -> None:
    """Read by ranges, a video gives the same ZIP, byte by byte, as when it is a file."""
    wanted = {"fps": 2, "format": "png", "previews": []}
    downloaded = take_frames(clip, tmp_path / "downloaded", **wanted)
    with RangeStorage(clip.read_bytes()) as storage:
        ranged = take_frames_by_ranges(storage, tmp_path / "ranged", **wanted)
    zips = [run.recorder.artifacts["frames.zip"][1] for run in (downloaded, ranged)]
    assert zips[0].read_bytes() == zips[1].read_bytes()


def test_jpegs_are_made_of_these_pixels(clip: Path, tmp_path: Path) -> None:
    """A JPEG is what its encoder makes of exactly the pixels that a PNG has."""
    wanted = {"fps": 2, "previews": [], "max_frames": 2, "quality": 92}
    lossless = take_frames(clip, tmp_path / "png", format="png", **wanted)
    lossy = take_frames(clip, tmp_path / "jpg", format="jpg", **wanted)
    for png, jpg in zip(lossless.manifest["frames"], lossy.manifest["frames"], strict=True):
        with Image.open(io.BytesIO(lossless.archive.read(png["name"]))) as pixels:
            made = io.BytesIO()
            pixels.save(made, "JPEG", quality=92)
        assert lossy.archive.read(jpg["name"]) == made.getvalue()
