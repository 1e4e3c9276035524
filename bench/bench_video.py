"""Frames of a long video, against a bare decode and against the usual way; 1 if a limit is missed.

`python bench/bench_video.py [--quick | --seconds N]`. A clip of 1080p30 with B-frames is made (10
minutes; 20 s with --quick; 20 s of pictures again and again), then each way takes a frame a second
of it, in its own process and on one thread:

- bare: FFmpeg decodes everything and its filter `fps` picks; nothing is written. The program of the
  package imageio-ffmpeg does it if that is installed, else the same libraries through PyAV.
- usual: download, frames as PNG files, those in a deflated ZIP, upload.
- ours: the pipeline `video-frames`, which reads its video by ranges, and whose ZIP is sent in parts
  while it is made, by the worker's own code.

Video and ZIP are in a real S3 server on this machine. Checking the ZIP afterwards, which the API
does in the same way for both, is left out. docs/video-frames.md has figures. On a shared machine
the clock tells little; CPU time does.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import httpx
from av.filter import Graph

from app.config import Settings
from app.storage.minio_store import MinioStore
from contract.artifacts import ArtifactRecord
from contract.attempts import InputFile
from contract.kinds import ArtifactKind
from contract.streams import (
    StreamCompletion,
    StreamParts,
    StreamPartsRequest,
    StreamRequest,
    StreamTicket,
)
from devstack.servers import S3Server
from worker_vm.api_client import AttemptApi
from worker_vm.backoff import RetryPolicy, sleep
from worker_vm.host_protocol import Streamed
from worker_vm.host_report import PipedFile
from worker_vm.http_client import make_client
from worker_vm.logs import configure_logging
from worker_vm.part_uploads import PartUploader
from worker_vm.pipelines.base import RangedInput, RunInput
from worker_vm.pipelines.frames.pipeline import FramesPipeline
from worker_vm.range_server import RangedInputs
from worker_vm.range_source import RangeSource
from worker_vm.streams import RunStreams, StreamedFile
from worker_vm.upload_tries import UploadTries

QUICK_SECONDS, FULL_SECONDS = 20, 600
RATE = 30
ONCE_SECONDS = 20
SECONDS = "BENCH_VIDEO_SECONDS"
S3_URL = "BENCH_VIDEO_S3_URL"
S3_USER, S3_SECRET = "bench", "bench-secret"
BUCKET = "videos"
CLIP_KEY = "clip.mp4"
MOST_OF_BARE = 0.65
MOST_OF_USUAL = 0.2
MOST_MEMORY_MB = 500
FIRST_FRAME_SECONDS = 1.0


def make_clip(path: Path, folder: Path) -> None:
    """Moving figures and noise, B-frames, a keyframe every 250 pictures, again and again."""
    once = folder / "once.mp4"
    encode(once)
    seconds = int(os.environ[SECONDS])
    with av.open(path, "w", options={"movflags": "faststart"}) as container:
        stream = None
        for turn in range(-(-seconds // ONCE_SECONDS)):
            with av.open(once) as source:
                video = source.streams.video[0]
                stream = stream or container.add_stream_from_template(video)
                shift = int(turn * ONCE_SECONDS / video.time_base)
                for packet in source.demux(video):
                    if packet.dts is not None:
                        packet.pts += shift
                        packet.dts += shift
                        packet.stream = stream
                        container.mux(packet)


def encode(path: Path) -> None:
    """The pictures."""
    graph = Graph()
    source = graph.add("testsrc2", f"size=1920x1080:rate={RATE}:duration={ONCE_SECONDS}")
    noise = graph.add("noise", "alls=6:allf=t")
    pixels = graph.add("format", "yuv420p")
    sink = graph.add("buffersink")
    for first, second in ((source, noise), (noise, pixels), (pixels, sink)):
        first.link_to(second)
    graph.configure()
    with av.open(path, "w") as container:
        options = {"preset": "superfast", "bf": "3", "crf": "28"}
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        while True:
            try:
                frame = graph.pull()
            except (av.error.EOFError, av.error.BlockingIOError):
                break
            frame.pict_type = 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def picked(path: Path) -> Iterator[av.VideoFrame]:
    """Frames as FFmpeg's filter picks them, of a full decode."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        graph = Graph()
        source = graph.add_buffer(template=stream, time_base=stream.time_base)
        rate, sink = graph.add("fps", "fps=1"), graph.add("buffersink")
        source.link_to(rate)
        rate.link_to(sink)
        graph.configure()
        for frame in container.decode(stream):
            graph.push(frame)
            yield from pulled(graph)
        graph.push(None)
        yield from pulled(graph)


def pulled(graph: Graph) -> Iterator[av.VideoFrame]:
    """What has come out of a graph."""
    while True:
        try:
            yield graph.pull()
        except (av.error.EOFError, av.error.BlockingIOError):
            return


def bare(clip: Path, _folder: Path) -> None:
    """Decode everything and write nothing."""
    if find_spec("imageio_ffmpeg"):
        import imageio_ffmpeg  # noqa: PLC0415

        program = imageio_ffmpeg.get_ffmpeg_exe()
        command = [program, "-v", "error", "-threads", "1", "-i", clip, "-vf", "fps=1"]
        subprocess.run([*command, "-f", "null", "-"], check=True)
        return
    for _ in picked(clip):
        pass


def usual(_clip: Path, folder: Path) -> None:
    """Download, PNG files, deflated ZIP, upload."""
    storage = Storage()
    video = folder / "video.mp4"
    with make_client() as client:
        with client.stream("GET", storage.item().url) as response, video.open("wb") as file:
            for chunk in response.iter_raw(1 << 20):
                file.write(chunk)
        names = []
        for number, frame in enumerate(picked(video), 1):
            names.append(folder / f"frame_{number:04d}.png")
            frame.to_image().save(names[-1])
        with zipfile.ZipFile(folder / "frames.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.write(name, name.name)
        with (folder / "frames.zip").open("rb") as file:
            length = {"Content-Length": str((folder / "frames.zip").stat().st_size)}
            sent = client.put(
                storage.store.presign_put("usual.zip", 600), content=file, headers=length
            )
        sent.raise_for_status()
    tell(disk_bytes=sum(path.stat().st_size for path in folder.iterdir()))


class Storage:
    """The benchmark's S3 server, and the three calls of the API that a streamed file needs."""

    def __init__(self) -> None:
        self.store = MinioStore(storage_settings())
        self._keys: dict[uuid.UUID, tuple[str, str]] = {}

    def item(self) -> InputFile:
        """The video, as an attempt is told of it."""
        found = asyncio.run(self.store.read_start(CLIP_KEY, 1))
        assert found is not None
        return InputFile(
            parameter="video_path",
            object_name=CLIP_KEY,
            url=self.store.presign_get(CLIP_KEY, 3600),
            etag=found.etag,
            size_bytes=found.size_bytes,
            media_type="video/mp4",
        )

    def begin_stream(self, request: StreamRequest) -> StreamTicket:
        """Begin an upload in parts."""
        upload = asyncio.run(self.store.begin_multipart(request.name, request.media_type))
        ticket = uuid.uuid4()
        self._keys[ticket] = request.name, upload
        return StreamTicket(ticket_id=ticket)

    def stream_parts(self, asked: StreamPartsRequest) -> StreamParts:
        """Where parts go."""
        key, upload = self._keys[asked.ticket_id]
        numbers = range(asked.first, asked.first + asked.count)
        return StreamParts(
            upload_urls=[self.store.presign_part(key, upload, number, 600) for number in numbers],
            expires_at=datetime.now(UTC),
        )

    def complete_stream(self, completion: StreamCompletion) -> ArtifactRecord:
        """Have the parts put together."""
        key, upload = self._keys[completion.ticket_id]
        assert asyncio.run(self.store.complete_multipart(key, upload, completion.etags))
        return ArtifactRecord(
            artifact_id=completion.ticket_id,
            kind=ArtifactKind.FRAMES_ZIP,
            name=key,
            size_bytes=completion.size_bytes,
            sha256=completion.sha256,
        )


class Sender:
    """A reporter that sends what is streamed as a worker does."""

    def __init__(self, storage: Storage, client: httpx.Client, folder: Path) -> None:
        policy, api = RetryPolicy(), cast("AttemptApi", storage)
        self.uploader = PartUploader(api, client, UploadTries(policy, sleep))
        self.streams = RunStreams(folder / "streams", self.uploader, print)
        self.sent: list[StreamedFile] = []

    def progress(self, percent: float, stage: str, message: str | None = None) -> None:
        """Nothing."""

    def artifact(self, _kind: ArtifactKind, _path: Path, _media_type: str) -> None:
        """Small files are not what this is about."""

    def stream(self, kind: ArtifactKind, name: str, media_type: str) -> PipedFile:
        """As in a worker, but for the process between."""
        stream = PipedFile(name, lambda: None, self._finish)
        request = StreamRequest(kind=kind, name=name, media_type=media_type)
        self.streams.begin(request, stream.reading_end)
        return stream

    def _finish(self, told: Streamed) -> None:
        file = self.streams.finish(told.name, told.size_bytes)
        assert file is not None
        self.sent.append(file)


def ours(_clip: Path, folder: Path) -> None:
    """The pipeline, with the worker's ways from and to storage."""
    begun = time.monotonic()
    storage = Storage()
    with make_client() as client, RangedInputs() as ranged:
        source = RangeSource(client, storage.item(), policy=RetryPolicy(), pause=sleep)
        assert ranged.serve(source)
        sender = Sender(storage, client, folder)
        job = RunInput(
            job_id=uuid.uuid4(),
            model_id="video-frames-v1",
            model_version="1.0.0",
            params={"video_path": CLIP_KEY, "sample": "ffmpeg_near"},
            prompt=None,
            inputs={},
            ranged={"video_path": RangedInput(ranged.connections[0], source.item.size_bytes)},
            work_dir=folder,
        )
        before = time.monotonic() - begun
        metrics = FramesPipeline().run(job, sender)
        sender.streams.close()
        (file,) = sender.sent
        file.deliver(sender.uploader)
    tell(
        first_frame_seconds=before + metrics["first_frame_seconds"],
        decoder_peak_mb=metrics["decoder_peak_memory_bytes"] / 1e6,
        disk_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        requests=source.requests,
        read_share=source.bytes_read / source.item.size_bytes,
    )


def tell(**facts: float) -> None:
    """Say something to the process that measures."""
    print(json.dumps(facts))


def storage_settings() -> Settings:
    """How to reach the benchmark's S3 server."""
    names = ("first_superuser_password", "first_superuser_api_key", "worker_api_key", "secret_key")
    unused = {name: f"{name}-that-nobody-ever-uses" for name in names}
    return Settings(
        _env_file=None,
        database_url="postgresql://nowhere/none",
        redis_url="redis://nowhere",
        minio_endpoint=os.environ[S3_URL],
        minio_access_key=S3_USER,
        minio_secret_key=S3_SECRET,
        minio_bucket=BUCKET,
        **unused,
    )


WAYS = {"bare": bare, "usual": usual, "ours": ours}
STEPS = {"clip": make_clip, **WAYS}


@dataclass(frozen=True)
class Cost:
    """What a way took."""

    wall: float
    cpu: float
    peak_mb: float
    told: dict[str, float]


def measure(way: str, clip: Path) -> Cost:
    """Run a step in a process of its own; this one stays small, since its size counts too."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as printed:
        begun = time.monotonic()
        command = [sys.executable, __file__, "--way", way, str(clip), folder]
        environment = {**os.environ, "WORKER_THREADS": "1"}
        child = subprocess.Popen(command, stdout=printed, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"{way} failed")
        printed.seek(0)
        told = json.loads(printed.read() or "{}")
        # The largest of its processes; the decoder runs beside the one that reads and sends.
        peak = usage.ru_maxrss / 1024 + told.get("decoder_peak_mb", 0)
        return Cost(wall, usage.ru_utime + usage.ru_stime, peak, told)


def main(seconds: int) -> int:
    """Make the clip, run all ways, compare."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / CLIP_KEY
        os.environ[SECONDS] = str(seconds)
        measure("clip", clip)
        peer = "imageio-ffmpeg" if find_spec("imageio_ffmpeg") else "PyAV"
        print(f"clip: {seconds} s, {clip.stat().st_size >> 20} MiB; bare decode by {peer}")
        with S3Server(
            Path(folder) / "s3", bucket=BUCKET, access_key=S3_USER, secret_key=S3_SECRET
        ) as server:
            os.environ[S3_URL] = server.url
            shutil.copyfile(clip, server.objects / BUCKET / CLIP_KEY)
            costs = {way: measure(way, clip) for way in WAYS}
    return judge(costs, full=seconds >= FULL_SECONDS)


def judge(costs: dict[str, Cost], *, full: bool) -> int:
    """Print what was found; 1 if a limit is missed in a run that is long enough to tell."""
    print("way      wall s  of bare    CPU s  of bare   peak MB   disk MB")
    bare_cost = costs["bare"]
    for way, cost in costs.items():
        disk = cost.told.get("disk_bytes", 0) / 1e6
        print(
            f"{way:6} {cost.wall:8.2f} {cost.wall / bare_cost.wall:8.2f} {cost.cpu:8.2f}"
            f" {cost.cpu / bare_cost.cpu:8.2f} {cost.peak_mb:9.0f} {disk:9.1f}"
        )
    mine = costs["ours"]
    first = mine.told["first_frame_seconds"]
    print(
        f"ours: first frame after {first:.2f} s, {mine.told['requests']:.0f} requests for"
        f" {mine.told['read_share']:.2f} times the video's bytes"
    )
    found = {
        f"at most {MOST_OF_BARE} of bare": mine.wall <= MOST_OF_BARE * bare_cost.wall,
        f"at most {MOST_OF_USUAL} of usual": mine.wall <= MOST_OF_USUAL * costs["usual"].wall,
        f"at most {MOST_MEMORY_MB} MB": mine.peak_mb <= MOST_MEMORY_MB,
        f"first frame within {FIRST_FRAME_SECONDS} s": first <= FIRST_FRAME_SECONDS,
    }
    for limit, kept in found.items():
        print(f"{'kept  ' if kept else 'MISSED'}  {limit}")
    # In a few seconds the start of processes counts for more than the video.
    return 0 if not full or all(found.values()) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--way"]:
        configure_logging("error", "json", sys.stderr)
        STEPS[sys.argv[2]](Path(sys.argv[3]), Path(sys.argv[4]))
        raise SystemExit(0)
    asked = sys.argv[sys.argv.index("--seconds") + 1] if "--seconds" in sys.argv else FULL_SECONDS
    raise SystemExit(main(QUICK_SECONDS if "--quick" in sys.argv else int(asked)))
