"""Each hostile or broken video ends in its own permanent code, and does no harm."""

import random
from pathlib import Path

import pytest
from frames_runs import take_frames
from hostile_videos import HOSTILE, MOVING, half, rotten
from video_clips import CLIPS

from worker_vm.pipelines.base import PipelineError
from worker_vm.video.problems import VideoCode


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_its_own_code(name: str, tmp_path: Path) -> None:
    """The failure is permanent, has the code for what is wrong, and a sentence for a person."""
    make, code = HOSTILE[name]
    video = make(tmp_path / "holiday.mp4")
    with pytest.raises(PipelineError) as caught:
        take_frames(video, tmp_path / "run", fps=5)
    assert caught.value.code == code
    assert caught.value.permanent
    assert caught.value.message.endswith(".")
    assert str(tmp_path) not in caught.value.message


def test_wrong_extension_does_not_matter(tmp_path: Path) -> None:
    """The first bytes decide: a WebM called .mp4 is read as what it is."""
    video = CLIPS["vp9"].write(tmp_path / "clip.webm").rename(tmp_path / "clip.mp4")
    run = take_frames(video, tmp_path / "run")
    assert run.manifest["source"]["media_type"] == "video/webm"
    assert len(run.pictures) == 4


@pytest.mark.parametrize("damage", [half, rotten])
def test_partial_takes_what_is_left(damage, tmp_path: Path) -> None:
    """With on_damage partial there are frames, and the manifest says that something was wrong."""
    whole = MOVING.write(tmp_path / "whole.mp4")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(damage(whole.read_bytes()))
    run = take_frames(broken, tmp_path / "run", fps=5, on_damage="partial")
    assert run.manifest["damage"]
    assert run.pictures
    assert len(run.pictures) == run.manifest["frame_count"] == run.metrics["frame_count"]


@pytest.mark.parametrize("seed", range(12))
def test_random_damage_never_surprises(seed: int, tmp_path: Path) -> None:
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
        run = take_frames(video, tmp_path / "run", on_damage=rng.choice(["fail", "partial"]))
    except PipelineError as error:
        failure = error
    if failure is None:
        assert len(run.pictures) == run.manifest["frame_count"] > 0
    else:
        assert failure.code in {code.value for code in VideoCode}
        assert failure.permanent
        assert "ended by" not in failure.message


def test_keyframes_bridge_a_gap(tmp_path: Path) -> None:
    """What is refused for its copies can still be had frame by frame."""
    make, _ = HOSTILE["gap"]
    run = take_frames(make(tmp_path / "gap.mkv"), tmp_path / "run", fps=0)
    assert len(run.pictures) == 4


@pytest.mark.parametrize(
    ("setting", "value", "code", "parameters"),
    [
        ("VIDEO_MAX_FRAMES", "10", "FRAME_LIMIT", {"fps": 25}),
        ("VIDEO_MAX_SECONDS", "2", "DURATION_LIMIT", {}),
        ("VIDEO_MAX_PIXELS", "15000", "RESOLUTION_LIMIT", {}),
        ("VIDEO_MAX_OUTPUT_MIB", "1", "OUTPUT_LIMIT", {"fps": 0, "format": "png"}),
        ("VIDEO_MEMORY_MIB", "1", "MEMORY_LIMIT", {}),
        ("VIDEO_WORK_SECONDS", "1", "TIMEOUT", {"fps": 0, "format": "webp", "quality": 100}),
    ],
)
def test_limits_are_settings(
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
        clip = type(clip)("mpeg4", size=(1280, 720), frames=60)
    video = clip.write(tmp_path / "clip.mp4")
    with pytest.raises(PipelineError) as caught:
        take_frames(video, tmp_path / "run", **parameters)
    assert caught.value.code == code
    assert caught.value.permanent


def test_within_the_limit_by_asking_for_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video that is too long is taken if only a short part is wanted."""
    monkeypatch.setenv("VIDEO_MAX_SECONDS", "2")
    video = CLIPS["h264-b-frames"].write(tmp_path / "clip.mp4")
    assert len(take_frames(video, tmp_path / "run", end_s=2).pictures) == 2
