"""Decoding what users upload: odd pictures work, hostile files fail with a sentence."""

import io
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_pictures import ball, encode, png_claiming, scene
from PIL import Image

from worker_vm import images
from worker_vm.images import Picture, decode
from worker_vm.pipelines.base import PipelineError

RED = (200, 30, 40)


def decoded(data: bytes, folder: Path) -> Picture:
    path = folder / "upload.bin"
    path.write_bytes(data)
    return decode(path, folder)


def refusal(data: bytes, folder: Path) -> str:
    with pytest.raises(PipelineError) as caught:
        decoded(data, folder)
    assert caught.value.code == "INVALID_INPUT"
    assert caught.value.permanent
    assert list(folder.iterdir()) == [folder / "upload.bin"]
    return caught.value.message


def plain(mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (48, 32), RED).convert(mode)


def encode_image(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("RGB", "JPEG"), ("CMYK", "JPEG"),
        ("RGB", "WEBP"), ("RGBA", "WEBP"),
    ],
)  # fmt: skip
def test_kinds_and_modes(tmp_path: Path, mode: str, kind: str) -> None:
    """Colour pictures of each kind come out as the same red, opaque."""
    picture = decoded(encode_image(plain(mode), kind), tmp_path)
    assert picture.rgba.shape == (32, 48, 4)
    assert picture.format == kind
    assert picture.rgba[16, 24, :3].astype(int) == pytest.approx(RED, abs=25)
    assert picture.rgba[..., 3].min() == 255


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey(tmp_path: Path, mode: str) -> None:
    """Grey pictures come out with three equal channels."""
    picture = decoded(encode_image(plain(mode), "PNG"), tmp_path)
    assert (np.ptp(picture.rgba[..., :3], axis=2) == 0).all()


def test_sixteen_bits(tmp_path: Path) -> None:
    """A 16-bit grey PNG keeps its brightness."""
    deep = Image.fromarray(np.full((32, 32), 32896, np.uint16))
    assert decoded(encode_image(deep, "PNG"), tmp_path).rgba[5, 5, 0] == 128


def test_rotation_of_exif(tmp_path: Path) -> None:
    """A picture taken sideways comes out upright."""
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :16] = 255  # the white end is the upright picture's top
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = decoded(encode(pixels, "JPEG", exif=exif), tmp_path)
    assert picture.rgba.shape == (64, 32, 4)
    assert picture.rgba[4, 16, 0] > 200
    assert picture.rgba[60, 16, 0] < 50


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animation_gives_its_first_frame(tmp_path: Path, kind: str) -> None:
    """Only the first frame of an animation is taken."""
    blue = Image.new("RGB", (48, 32), (0, 0, 255))
    data = encode_image(plain(), kind, save_all=True, append_images=[blue])
    assert decoded(data, tmp_path).rgba[16, 24, 0] > 150


def test_name_does_not_decide(tmp_path: Path) -> None:
    """A JPEG named .png is a JPEG."""
    path = tmp_path / "upload.png"
    path.write_bytes(encode(scene(ball), "JPEG"))
    assert decode(path, tmp_path).format == "JPEG"


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"<!doctype html><title>404</title>", "HTML"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "damaged"),
        (b"\xff\xd8\xff\xe0" + bytes(300), "damaged"),
        (b"RIFF\x40\0\0\0WEBPVP8 " + bytes(60), "damaged"),
        (b"just some text", "something else"),
        (encode(scene(ball), "GIF"), "GIF"),
        (encode(scene(ball), "PNG")[:9000], "damaged"),
        (encode(scene(ball), "JPEG")[:3000], "damaged"),
        (encode(scene(ball), "WEBP")[:1000], "damaged"),
        (png_claiming(100_000, 100_000, zlib.compress(b"0")), "100000 x 100000"),
        (png_claiming(8, 4000, zlib.compress(bytes(4000 * 25))), "only 8 x 4000"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, data: bytes, word: str) -> None:
    """Broken, foreign and oversized files are refused with a sentence that names the reason."""
    assert word in refusal(data, tmp_path)


def test_bomb_of_zeros(tmp_path: Path) -> None:
    """A small file that unpacks to 30 000 x 30 000 pixels is refused before it is unpacked."""
    squeeze = zlib.compressobj(9)
    rows = b"".join(squeeze.compress(bytes(90_001)) for _ in range(300)) + squeeze.flush()
    assert "30000 x 30000" in refusal(png_claiming(30_000, 30_000, rows), tmp_path)


def test_file_that_is_too_large(tmp_path: Path) -> None:
    """Files over 20 MiB are not even opened."""
    path = tmp_path / "upload.bin"
    with path.open("wb") as file:
        file.truncate(20 * 1024 * 1024 + 1)
    with pytest.raises(PipelineError, match="20 MiB"):
        decode(path, tmp_path)


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        ({"memory_bytes": 1 << 20}, "memory"),
        ({"output_bytes": 1000}, "larger"),
        ({"wall_seconds": 0.001}, "0.001"),
    ],
)
def test_limits_of_the_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any], word: str
) -> None:
    """Each limit ends the decoder with a sentence, not with a crash of the worker."""
    monkeypatch.setattr(images, "_LIMITS", replace(images._LIMITS, **limits))
    assert word in refusal(encode(np.zeros((900, 900, 3), np.uint8)), tmp_path)
