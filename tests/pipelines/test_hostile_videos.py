"""Each hostile or broken video ends in its own permanent code, and does no harm."""

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from analytics_runs import analyse
from frames_runs import take_frames
from hostile_videos import HOSTILE, MOVING, half, rotten
from video_clips import CLIPS

from worker_vm.pipelines.base import PipelineError
from worker_vm.video.input import Video
from worker_vm.video.problems import VideoCode

Runner = Callable[..., Any]
EACH_PIPELINE = pytest.mark.parametrize("run", [take_frames, analyse])


def count(outcome: Any) -> int:
    """How many frames came of a video, by what lies there."""
    if "frames.zip" in outcome.recorder.artifacts:
        return len(outcome.pictures)
    return len(outcome.pictures())


@EACH_PIPELINE
@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_its_own_code(run: Runner, name: str, tmp_path: Path) -> None:
    """The failure is permanent, has the code for what is wrong, and a sentence for a person."""
    make, code = HOSTILE[name]
    video = make(tmp_path / "holiday.mp4")
    with pytest.raises(PipelineError) as caught:
        run(video, tmp_path / "run", fps=5)
    assert caught.value.code == code
    assert caught.value.permanent
    assert caught.value.message.endswith(".")
    assert str(tmp_path) not in caught.value.message


@EACH_PIPELINE
def test_wrong_extension_does_not_matter(run: Runner, tmp_path: Path) -> None:
    """The first bytes decide: a WebM called .mp4 is read as what it is."""
    video = CLIPS["vp9"].write(tmp_path / "clip.webm").rename(tmp_path / "clip.mp4")
    outcome = run(video, tmp_path / "run", fps=1)
    assert outcome.manifest["source"]["media_type"] == "video/webm"
    assert count(outcome) == 4


@EACH_PIPELINE
@pytest.mark.parametrize("damage", [half, rotten])
def test_partial_takes_what_is_left(run: Runner, damage, tmp_path: Path) -> None:
    """With on_damage partial there are frames, and the manifest says that something was wrong."""
    whole = MOVING.write(tmp_path / "whole.mp4")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(damage(whole.read_bytes()))
    outcome = run(broken, tmp_path / "run", fps=5, on_damage="partial")
    assert outcome.manifest["damage"]
    assert count(outcome) == outcome.metrics["frame_count"] > 0


@EACH_PIPELINE
@pytest.mark.parametrize("on_damage", ["fail", "partial"])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_what_cannot_be_read_is_no_damage(
    run: Runner, name: str, on_damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the file's end cannot be read, the next attempt may, so nothing is made of the rest."""
    video = replace(MOVING, suffix=name.partition(".")[2]).write(tmp_path / name)
    look = Video.media_type

    def lose_the_end(self: Video) -> str:
        os.truncate(video, self.size_bytes // 2)
        return look(self)

    monkeypatch.setattr(Video, "media_type", lose_the_end)
    with pytest.raises(PipelineError) as caught:
        run(video, tmp_path / "run", fps=5, on_damage=on_damage)
    assert (caught.value.code, caught.value.permanent) == ("INPUT_READ_ERROR", False)


@EACH_PIPELINE
@pytest.mark.parametrize("seed", range(12))
def test_random_damage_never_surprises(run: Runner, seed: int, tmp_path: Path) -> None:
    """Whatever is done to a file, there are frames or a known reason why not; nothing crashes."""
    rng = random.Random(seed)  # noqa: S311
    clip = CLIPS[rng.choice(["h264-b-frames", "vp9", "mpeg4-asp-avi", "flv", "wmv2", "prores"])]
    file = bytearray(clip.write(tmp_path / f"clip.{clip.suffix}").read_bytes())
    for _ in range(rng.randrange(1, 30)):
        place = rng.randrange(16, len(file))
        if rng.random() < 0.2:
            del file[place : place + rng.randrange(500)]
        else:
            file[place] = rng.randrange(256)
    video = tmp_path / "damaged"
    video.write_bytes(file)
    failure = None
    try:
        outcome = run(video, tmp_path / "run", on_damage=rng.choice(["fail", "partial"]))
    except PipelineError as error:
        failure = error
    if failure is None:
        assert count(outcome) == outcome.metrics["frame_count"] > 0
    else:
        assert failure.code in {code.value for code in VideoCode}
        assert failure.permanent
        assert "ended by" not in failure.message


@EACH_PIPELINE
def test_frames_bridge_a_gap(run: Runner, tmp_path: Path) -> None:
    """What is refused for its copies can still be had frame by frame."""
    make, _ = HOSTILE["gap"]
    assert count(run(make(tmp_path / "gap.mkv"), tmp_path / "run", fps=0)) == 4


@pytest.mark.parametrize(
    ("run", "setting", "value", "code", "parameters"),
    [
        (take_frames, "VIDEO_MAX_FRAMES", "10", "FRAME_LIMIT", {"fps": 25}),
        (take_frames, "VIDEO_MAX_SECONDS", "2", "DURATION_LIMIT", {}),
        (take_frames, "VIDEO_MAX_PIXELS", "15000", "RESOLUTION_LIMIT", {}),
        (take_frames, "VIDEO_MAX_OUTPUT_MIB", "1", "OUTPUT_LIMIT", {"fps": 0, "format": "png"}),
        (take_frames, "VIDEO_MEMORY_MIB", "1", "MEMORY_LIMIT", {}),
        (take_frames, "VIDEO_WORK_SECONDS", "1", "TIMEOUT", {"fps": 0, "format": "webp"}),
        (analyse, "ANALYTICS_MAX_FRAMES", "10", "FRAME_LIMIT", {}),
        (analyse, "VIDEO_MAX_SECONDS", "2", "DURATION_LIMIT", {}),
        (analyse, "VIDEO_MAX_PIXELS", "15000", "RESOLUTION_LIMIT", {}),
        (analyse, "VIDEO_MAX_OUTPUT_MIB", "1", "OUTPUT_LIMIT", {"mock_mode": True}),
        (analyse, "VIDEO_MEMORY_MIB", "1", "MEMORY_LIMIT", {}),
        (analyse, "ANALYTICS_WORK_SECONDS", "1", "TIMEOUT", {"max_width": 3840}),
    ],
)
def test_limits_are_settings(
    run: Runner,
    setting: str,
    value: str,
    code: str,
    parameters: dict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each limit that the operator sets holds, and has its code."""
    monkeypatch.setenv(setting, value)
    clip = CLIPS["h264-b-frames"]
    if code in {"TIMEOUT", "OUTPUT_LIMIT"}:
        clip = type(clip)("mpeg4", size=(1280, 720), frames=90)
    video = clip.write(tmp_path / "clip.mp4")
    with pytest.raises(PipelineError) as caught:
        run(video, tmp_path / "run", **parameters)
    assert caught.value.code == code
    assert caught.value.permanent


@EACH_PIPELINE
def test_within_the_limit_by_asking_for_a_part(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video that is too long is taken if only a short part is wanted."""
    monkeypatch.setenv("VIDEO_MAX_SECONDS", "2")
    video = CLIPS["h264-b-frames"].write(tmp_path / "clip.mp4")
    assert count(run(video, tmp_path / "run", fps=1, end_s=2)) == 2
