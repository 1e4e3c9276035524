"""Which kind of video file a file is, by its first bytes; standard library only.

The app asks before it accepts an upload, the worker before it lets a decoder see the file. Names
and declared types are only claims; playlists, scripts and session descriptions are no videos.
"""

ENOUGH_BYTES = 4096
"""How much of a file has to be read to tell."""

MP4 = "video/mp4"
QUICKTIME = "video/quicktime"
MATROSKA = "video/x-matroska"
WEBM = "video/webm"
AVI = "video/x-msvideo"
ASF = "video/x-ms-wmv"
FLV = "video/x-flv"
MPEG_TS = "video/mp2t"

VIDEO_TYPES = frozenset({MP4, QUICKTIME, MATROSKA, WEBM, AVI, ASF, FLV, MPEG_TS})

_SYNC = 0x47
_FEWEST_PACKETS = 8
_EBML = b"\x1a\x45\xdf\xa3"
_MAGIC = {bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"): ASF, b"FLV\x01": FLV}
_PICTURE_BRANDS = frozenset(
    {b"avif", b"avis", b"heic", b"heim", b"heis", b"heix", b"hevc", b"hevx", b"mif1", b"msf1"}
)
_AUDIO_BRANDS = frozenset({b"M4A ", b"M4B ", b"M4P "})
_QUICKTIME_ATOMS = frozenset({b"moov", b"mdat", b"wide", b"skip", b"pnot"})


def video_type_of(head: bytes) -> str | None:
    """The media type of a video file by its first bytes, or None if it is none of ours."""
    if head[4:8] == b"ftyp":
        return _type_of_brand(head[8:12])
    if head.startswith(_EBML):
        return WEBM if b"webm" in head[:64] else MATROSKA if b"matroska" in head[:64] else None
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return AVI
    if head[4:8] in _QUICKTIME_ATOMS:  # written before there was a brand
        return QUICKTIME
    if _is_transport_stream(head):
        return MPEG_TS
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def _is_transport_stream(head: bytes) -> bool:
    """Packets of 188 bytes (ISO/IEC 13818-1), or those behind four bytes of a time, as in M2TS.

    Each begins with a byte that is also a letter, so some of them have to be there.
    """
    for size, start in ((188, 0), (192, 4)):
        begins = head[start:ENOUGH_BYTES:size]
        if len(begins) >= _FEWEST_PACKETS and set(begins) == {_SYNC}:
            return True
    return False


def _type_of_brand(brand: bytes) -> str | None:
    if brand in _PICTURE_BRANDS or brand in _AUDIO_BRANDS:
        return None
    return QUICKTIME if brand == b"qt  " else MP4
