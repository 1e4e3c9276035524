"""Pictures with bytes changed, and how long to go on with them."""

import io
import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from PIL import Image

KINDS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


def budget(examples: int) -> settings:
    """So many examples: the same each time in CI, new ones elsewhere."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize="CI" in os.environ,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


def picture(kind: str) -> bytes:
    """A small picture as Pillow writes it."""
    out = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 30, 40)).save(out, kind)
    return out.getvalue()


PICTURES = {kind: picture(kind) for kind in KINDS}


@st.composite
def mutated(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS) -> bytes:
    """A picture with some bytes changed, cut off, put in or taken out."""
    data = bytearray(PICTURES[draw(st.sampled_from(kinds))])
    for _ in range(draw(st.integers(1, 8))):
        place = draw(st.integers(0, max(0, min(len(data), 400) - 1)))
        match draw(st.sampled_from(["set", "insert", "delete", "cut", "number"])):
            case "set" if data:
                data[place] = draw(st.integers(0, 255))
            case "insert":
                data[place:place] = draw(st.binary(max_size=12))
            case "delete":
                del data[place : place + draw(st.integers(1, 8))]
            case "cut":
                del data[place:]
            case _:
                data[place : place + 4] = draw(
                    st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f" + b"\xff" * 3, b"\x80\0\0\0"])
                )
    return bytes(data)
