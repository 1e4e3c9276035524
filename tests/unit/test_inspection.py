"""What a file is, by its first bytes."""

import io
import json
import struct
import zlib

import pytest
from PIL import Image

from app.artifacts.inspection import contradicts, media_type_of, picture_size

GLB = b"glTF" + struct.pack("<II", 2, 12)
STL = bytes(80) + struct.pack("<I", 2) + bytes(100)


def zip_entry(name: bytes, *, extra: int = 0, method: int = 0) -> bytes:
    """The beginning of a ZIP: the header of its first file, and nothing of the file."""
    sizes = struct.pack("<HH", len(name), extra)
    return b"PK\x03\x04" + struct.pack("<HHH", 20, 0, method) + bytes(16) + sizes + name


def picture(kind: str, size: tuple[int, int] = (40, 30)) -> bytes:
    """A picture as Pillow writes it."""
    out = io.BytesIO()
    Image.new("RGB", size).save(out, kind)
    return out.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds nothing."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0d" + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [
        ("PNG", "image/png"),
        ("JPEG", "image/jpeg"),
        ("WEBP", "image/webp"),
        ("GIF", "image/gif"),
        ("BMP", "image/bmp"),
        ("TIFF", "image/tiff"),
    ],
)
def test_pictures_by_their_bytes(kind: str, media_type: str) -> None:
    """Each kind of picture is known by its first bytes."""
    assert media_type_of(picture(kind)) == media_type


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (GLB, "model/gltf-binary"),
        (b"glTF", None),
        (b"PK\x03\x04" + b"\x00" * 40, "application/zip"),
        (b"", None),
        (b"\x00" * 100, None),
        (b"<!doctype html><script>", None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", None),
        (b"\x89PNG", "image/png"),
        (b"GIF89a" + b"\x00" * 20, "image/gif"),
        (b"\x00\x00\x00\x18ftypisom", "video/mp4"),
        (b"\x00\x00\x00\x18ftypiso6", "video/mp4"),
        (b"\x00\x00\x00\x18ftypM4V ", "video/mp4"),
        (b"\x00\x00\x00\x14ftypqt  ", "video/quicktime"),
        (b"\x00\x00\x00\x08wide\x00\x00\x00\x00mdat", "video/quicktime"),
        (b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00avifmif1miaf", "image/avif"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm", "video/webm"),
        (b"\x1a\x45\xdf\xa3\xa3\x42\x86\x81\x01\x42\x82\x88matroska", "video/x-matroska"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "video/x-msvideo"),
        (bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), "video/x-ms-wmv"),
        (b"FLV\x01\x05\x00\x00\x00\x09", "video/x-flv"),
        (b"G".ljust(188, b"\xff") * 8, "video/mp2t"),
        ((bytes(4) + b"G").ljust(192, b"\xff") * 8, "video/mp2t"),
        (b"G".ljust(188, b"\xff") * 7, None),
        (b"G".ljust(188, b"\xff") * 7 + b"H" * 188, None),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:10", None),
        (b"ffconcat version 1.0", None),
        (b"v=0\no=- 0 0 IN IP4 127.0.0.1", None),
    ],
)
def test_other_files(head: bytes, media_type: str | None) -> None:
    """Models, archives and videos are known by their bytes; text, playlists and HTML are not."""
    assert media_type_of(head) == media_type


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_picture_size(kind: str) -> None:
    """Width and height are read from the header alone."""
    assert picture_size(picture(kind)) == (40, 30)


def test_declared_size_is_believed_before_decoding() -> None:
    """A header that declares a huge picture tells so, though nothing of it is there."""
    assert picture_size(png_header(30_000, 30_000)) == (30_000, 30_000)


@pytest.mark.parametrize(
    "head",
    [b"", b"\x00", b"text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x00\x00\x00\x00WEBP"],
)
def test_no_size_in_broken_headers(head: bytes) -> None:
    """A header that is cut off or no picture's has no size, and raises nothing."""
    assert picture_size(head) is None


@pytest.mark.parametrize(
    ("media_type", "head"),
    [
        ("image/png", picture("PNG")),
        ("image/jpeg", picture("JPEG")),
        ("image/webp", picture("WEBP")),
        ("model/gltf-binary", GLB),
        ("application/json", b'{"a": 1}'),
        ("application/json", b"  [1]"),
        ("text/plain", b"a log line"),
        ("text/plain", b""),
        ("application/octet-stream", b"\x00\x01"),
        ("text/csv", b"a,b"),
        ("model/ply", b"ply\nformat ascii 1.0\n"),
        ("model/ply", b"ply\r\nformat ascii 1.0\r\n"),
        ("model/stl", STL),
        ("model/stl", b"solid" + STL[5:]),
        ("model/stl", b"solid cube\nfacet normal 0 0 1\n"),
        ("model/vnd.usdz+zip", zip_entry(b"model.usdc", extra=24)),
        ("model/vnd.usdz+zip", zip_entry(b"M.USDA", extra=28)),
        ("application/zip", zip_entry(b"model.obj", method=8)),
    ],
)
def test_honest_files(media_type: str, head: bytes) -> None:
    """A file that is what it was declared to be is contradicted by nothing."""
    assert contradicts(media_type, head, is_whole=True) is None


@pytest.mark.parametrize(
    ("media_type", "head", "reason"),
    [
        ("model/gltf-binary", picture("PNG"), "is image/png, not model/gltf-binary"),
        ("image/png", picture("GIF"), "is image/gif, not image/png"),
        ("image/png", b"<html>", "is of unknown type, not image/png"),
        ("image/png", b"", "is of unknown type, not image/png"),
        ("model/gltf-binary", b"glTF", "is of unknown type, not model/gltf-binary"),
        ("application/json", b"{", "is not valid JSON"),
        ("application/json", b"<html>", "is not valid JSON"),
        ("application/json", b'"text"', "is not a JSON object or list"),
        ("application/json", b"\xff\xfe\x00", "is not valid JSON"),
        ("application/json", b"[" * 60_000, "is not valid JSON"),
        ("model/ply", b"plywood", "is not model/ply by its first bytes"),
        ("model/ply", b"", "is not model/ply by its first bytes"),
        ("model/stl", STL[:-1], "is not model/stl by its first bytes"),
        ("model/stl", b"<html>" + bytes(90), "is not model/stl by its first bytes"),
        ("model/stl", b"", "is not model/stl by its first bytes"),
        (
            "model/vnd.usdz+zip",
            zip_entry(b"model.usdc"),
            "is not model/vnd.usdz+zip by its first bytes",
        ),
        (
            "model/vnd.usdz+zip",
            zip_entry(b"model.usdc", extra=24, method=8),
            "is not model/vnd.usdz+zip by its first bytes",
        ),
        (
            "model/vnd.usdz+zip",
            zip_entry(b"model.html", extra=24),
            "is not model/vnd.usdz+zip by its first bytes",
        ),
        ("model/vnd.usdz+zip", b"PK\x03\x04", "is not model/vnd.usdz+zip by its first bytes"),
        ("text/html", b"<html>", "has the media type text/html"),
        ("image/svg+xml", b"<svg>", "has the media type image/svg+xml"),
        ("application/javascript", b"x", "has the media type application/javascript"),
    ],
)
def test_contradictions(media_type: str, head: bytes, reason: str) -> None:
    """A file that is not what it was declared to be is told apart, in words."""
    found = contradicts(media_type, head, is_whole=True)
    assert found is not None
    assert found.startswith(reason)


def test_beginning_of_long_json() -> None:
    """The beginning of a long JSON file does for it, since it cannot be parsed."""
    head = json.dumps([1] * 100).encode()[:50]
    assert contradicts("application/json", head, is_whole=False) is None
    assert contradicts("application/json", b"<html>", is_whole=False) is not None


def test_beginning_of_a_long_stl() -> None:
    """Of a long STL only the beginning is seen, and its number of triangles has to fit."""
    long = bytes(80) + struct.pack("<I", 9000) + bytes(1000)
    assert contradicts("model/stl", long, is_whole=False) is None
    assert contradicts("model/stl", long, is_whole=True) is not None
    assert contradicts("model/stl", STL + bytes(99), is_whole=False) is not None
