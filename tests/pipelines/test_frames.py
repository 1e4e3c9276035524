"""What a user can ask of `video-frames`, and what comes back."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from frames_runs import AS_IT_IS, take_frames
from lying_decoder import MOST_FRAMES, MOST_PIXELS, PICTURE_LIES
from PIL import Image
from video_clips import CLIPS, HDR, all_frames

from contract.kinds import ArtifactKind
from worker_vm.pipelines.base import PipelineError, RunCancelledError
from worker_vm.pipelines.registry import load_pipeline
from worker_vm.video.settings import read_settings


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return CLIPS["h264-b-frames"].write(tmp_path_factory.mktemp("clip") / "clip.mp4")


def names(archive: zipfile.ZipFile) -> list[str]:
    return [entry.filename for entry in archive.infolist()]


def test_archive(video: Path, tmp_path: Path) -> None:
    """A stored ZIP of numbered pictures and the manifest, which is also an artifact of its own."""
    run = take_frames(video, tmp_path / "run")
    assert names(run.archive) == [*(f"frame_{n:04d}.jpg" for n in (1, 2, 3, 4)), "manifest.json"]
    assert {entry.compress_type for entry in run.archive.infolist()} == {zipfile.ZIP_STORED}
    assert run.archive.testzip() is None
    kinds = {name: kind for name, (kind, _, _) in run.recorder.artifacts.items()}
    assert kinds == {
        "frames.zip": ArtifactKind.FRAMES_ZIP,
        "manifest.json": ArtifactKind.MANIFEST,
        "poster.jpg": ArtifactKind.PREVIEW,
        "sprite.jpg": ArtifactKind.PREVIEW,
        "preview.webp": ArtifactKind.PREVIEW,
    }
    beside = json.loads(run.recorder.artifacts["manifest.json"][1].read_text())
    assert beside == run.manifest
    source = run.manifest["source"]
    assert (source["codec"], source["width"], source["height"]) == ("h264", 160, 96)
    assert source["duration_s"] == pytest.approx(3.6)
    percents = [percent for percent, _ in run.recorder.steps]
    assert percents == sorted(percents)
    assert percents[-1] == 100


def test_same_file_again(video: Path, tmp_path: Path) -> None:
    """The same video and parameters give the same ZIP, byte by byte."""
    first = take_frames(video, tmp_path / "first").recorder.artifacts["frames.zip"][1]
    second = take_frames(video, tmp_path / "second").recorder.artifacts["frames.zip"][1]
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(("asked", "kind"), [("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")])
def test_formats_and_width(asked: str, kind: str, video: Path, tmp_path: Path) -> None:
    """Frames are of the format and no wider than asked, in proportion."""
    run = take_frames(video, tmp_path / "run", format=asked, max_width=80, previews=[])
    with Image.open(io.BytesIO(run.archive.read(f"frame_0001.{asked}"))) as picture:
        assert picture.format == kind
        assert picture.size == (80, 48)


def test_quality(video: Path, tmp_path: Path) -> None:
    """Less quality is fewer bytes."""
    sizes = [
        take_frames(video, tmp_path / str(quality), quality=quality, previews=[]).metrics[
            "zip_size_bytes"
        ]
        for quality in (10, 95)
    ]
    assert sizes[0] < sizes[1] / 2


@pytest.mark.parametrize(
    ("parameters", "targets"),
    [
        ({"start_s": 1.5}, [1.5, 2.5, 3.5]),
        ({"start_s": 1.5, "end_s": 3.5}, [1.5, 2.5]),
        ({"end_s": 1}, [0]),
        ({"max_frames": 2}, [0, 1]),
        ({"fps": 0.5}, [0, 2]),
        ({"fps": 0.5, "start_s": 1}, [1, 3]),
        ({"sample": "ffmpeg_near", "start_s": 1.5}, [2, 3]),
        ({"sample": "ffmpeg_near", "end_s": 2}, [0, 1]),
        ({"sample": "keyframes"}, [0, 1.2, 2.4]),
        ({"sample": "keyframes", "start_s": 1.2, "end_s": 2.4}, [1.2]),
        ({"fps": 0, "start_s": 1, "end_s": 1.12}, [1, 1.04, 1.08]),
    ],
)
def test_parts(parameters: dict, targets: list[float], video: Path, tmp_path: Path) -> None:
    """A part of the video, fewer frames, keyframes: the manifest says which moments came of it."""
    run = take_frames(video, tmp_path / "run", **parameters, **AS_IT_IS)
    assert [frame["target_s"] for frame in run.manifest["frames"]] == targets
    truth = {round(float(frame.seconds), 6): frame.md5 for frame in all_frames(video)}
    assert run.md5s == [truth[frame["pts_s"]] for frame in run.manifest["frames"]]


def test_copies_are_named(tmp_path: Path) -> None:
    """Where a frame lasts longer than a moment it is there again, and the manifest says so."""
    video = CLIPS["vfr"].write(tmp_path / "clip.mp4")
    run = take_frames(video, tmp_path / "run", fps=10, start_s=15, end_s=16, **AS_IT_IS)
    frames = run.manifest["frames"]
    copies = [frame for frame in frames if "duplicate_of" in frame]
    assert copies
    assert run.manifest["distinct_frames"] == len(frames) - len(copies)
    for copy in copies:
        assert run.archive.read(copy["name"]) == run.archive.read(copy["duplicate_of"])


def test_upright(tmp_path: Path) -> None:
    """A video that is to be turned clockwise is, unless that is switched off."""
    video = CLIPS["rotated"].write(tmp_path / "clip.mp4")
    upright = take_frames(video, tmp_path / "a", format="png", max_frames=1, previews=[])
    lying = take_frames(video, tmp_path / "b", max_frames=1, **AS_IT_IS)
    assert upright.pictures[0].shape == (160, 96, 3)
    assert np.array_equal(np.rot90(lying.pictures[0], -1), upright.pictures[0])
    narrow = take_frames(video, tmp_path / "c", max_frames=1, max_width=48, previews=[])
    assert narrow.pictures[0].shape == (80, 48, 3)


def test_deinterlacing(tmp_path: Path) -> None:
    """Frames that say that they are woven of two fields are taken apart, unless switched off."""
    video = CLIPS["interlaced"].write(tmp_path / "clip.mkv")
    woven = take_frames(video, tmp_path / "a", max_frames=1, **AS_IT_IS)
    clean = take_frames(
        video, tmp_path / "b", max_frames=1, format="png", deinterlace="auto", previews=[]
    )
    assert clean.manifest["source"]["interlaced"] is True
    assert clean.pictures[0].shape == woven.pictures[0].shape
    assert not np.array_equal(clean.pictures[0], woven.pictures[0])


def test_tone_mapping(tmp_path: Path) -> None:
    """High dynamic range is brought to what a screen shows, unless that is switched off."""
    video = HDR.write(tmp_path / "clip.mkv")
    flat = take_frames(video, tmp_path / "a", max_frames=1, tonemap=False, **AS_IT_IS)
    mapped = take_frames(video, tmp_path / "b", max_frames=1, **AS_IT_IS)
    assert mapped.manifest["source"]["hdr"] is True
    assert mapped.pictures[0].shape == flat.pictures[0].shape
    assert mapped.pictures[0].std() > flat.pictures[0].std()


def test_several_threads_make_the_same_frames(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More threads change nothing but the time."""
    one = take_frames(video, tmp_path / "one", fps=5, **AS_IT_IS)
    monkeypatch.setenv("WORKER_THREADS", "3")
    several = take_frames(video, tmp_path / "several", fps=5, **AS_IT_IS)
    assert several.md5s == one.md5s
    assert several.manifest["decoding"] == "selective"


def test_previews(video: Path, tmp_path: Path) -> None:
    """A poster, a contact sheet of all frames, and an animation; only those that are asked for."""
    run = take_frames(video, tmp_path / "all", fps=5)
    files = {name: path for name, (_, path, _) in run.recorder.artifacts.items()}
    with Image.open(files["sprite.jpg"]) as sprite:
        assert sprite.size == (6 * 160, 3 * 96)  # 18 frames, six in a row
    with Image.open(files["preview.webp"]) as animation:
        assert animation.n_frames == 18
    with Image.open(files["poster.jpg"]) as poster:
        assert poster.size == (160, 96)
    only = take_frames(video, tmp_path / "one", previews=["sprite"])
    assert set(only.recorder.artifacts) == {"frames.zip", "manifest.json", "sprite.jpg"}


@pytest.mark.parametrize(
    "parameters",
    [
        {"fps": 31},
        {"fps": -1},
        {"fps": 0.0001},
        {"sample": "random"},
        {"quality": 0},
        {"start_s": 5, "end_s": 5},
        {"previews": ["gif"]},
        {"start_s": 100},
        {"unknown": 1},
    ],
)
def test_impossible_parameters(parameters: dict, video: Path, tmp_path: Path) -> None:
    """What cannot be meant is refused for good, with the parameter's name or the way out."""
    with pytest.raises(PipelineError) as caught:
        take_frames(video, tmp_path / "run", **parameters)
    assert caught.value.code == "INVALID_PARAMETERS"
    assert caught.value.permanent


def test_shorter_than_ffmpegs_first_moment(tmp_path: Path) -> None:
    """Where FFmpeg's filter would make no frame at all, the failure says what to do."""
    video = CLIPS["short"].write(tmp_path / "clip.mp4")
    with pytest.raises(PipelineError, match="at_time"):
        take_frames(video, tmp_path / "run", sample="ffmpeg_near")


def test_cancelled_in_the_middle(video: Path, tmp_path: Path, monkeypatch) -> None:
    """A run that is told to stop at a report lets that through and leaves no decoder behind."""

    def stop(self, percent: float, stage: str, message: str | None = None) -> None:
        if stage == "frames":
            raise RunCancelledError

    monkeypatch.setattr("frames_runs.Silence.progress", stop)
    with pytest.raises(RunCancelledError):
        take_frames(video, tmp_path / "run")


def test_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without PyAV says so, and how to install it; a malformed limit is named."""
    pipeline = load_pipeline("video-frames")
    assert pipeline.unavailable_reasons() == []
    monkeypatch.setenv("VIDEO_MAX_FRAMES", "many")
    assert pipeline.unavailable_reasons() == ["VIDEO_MAX_FRAMES must be a whole number above 0."]
    monkeypatch.delenv("VIDEO_MAX_FRAMES")
    monkeypatch.setattr(
        "worker_vm.video.settings.find_spec", lambda name: None if name == "av" else name
    )
    assert pipeline.unavailable_reasons() == [
        "The Python package 'av' is not installed (poetry install --only worker,video)."
    ]


@pytest.mark.parametrize("lie", PICTURE_LIES)
@pytest.mark.parametrize("by_settings", [True, False])
def test_a_lying_decoder(
    lie: str, *, by_settings: bool, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a decoder tells that has been taken over, the job fails, and nothing else does."""
    monkeypatch.setattr("worker_vm.pipelines.frames.run._DECODER", "tests.pipelines.lying_decoder")
    monkeypatch.setattr("worker_vm.video.input.Video.media_type", lambda _: lie)
    monkeypatch.setenv("VIDEO_MAX_PIXELS", str(MOST_PIXELS))
    if by_settings:
        monkeypatch.setenv("VIDEO_MAX_FRAMES", str(MOST_FRAMES))
    with pytest.raises(PipelineError) as caught:
        take_frames(video, tmp_path / "run", **({} if by_settings else {"max_frames": MOST_FRAMES}))
    assert caught.value.code == "CORRUPT_INPUT"
    assert "nonsense" in caught.value.message


def test_settings_are_read() -> None:
    """Limits come from the environment, an empty one is the default."""
    settings = read_settings({"VIDEO_MAX_PIXELS": "100", "VIDEO_MEMORY_MIB": ""})
    assert settings.max_pixels == 100
    assert settings.memory_bytes == 1 << 30
