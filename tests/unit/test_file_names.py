"""File names from outside become names that nothing can misread."""

import re
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from app.artifacts.names import artifact_key, safe_file_name, upload_key
from contract.base import FileName

_FILE_NAME = TypeAdapter(FileName)
_ID = UUID("01a1f888-73af-74cc-b052-31987fc97afa")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("teapot.png", "teapot.png"),
        ("My Teapot (1).PNG", "My_Teapot_1_.PNG"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\system32\\cmd.exe", "cmd.exe"),
        ("C:\\Users\\me\\picture.png", "picture.png"),
        ("/absolute.png", "absolute.png"),
        ("..", "file"),
        (".", "file"),
        ("", "file"),
        ("...", "file"),
        ("folder/", "file"),
        (".htaccess", "htaccess"),
        ("-rf", "rf"),
        ("__init__.py", "init__.py"),
        ("café crème.webp", "cafe_creme.webp"),
        ("Ångström.png", "Angstrom.png"),
        ("茶壺.png", "file.png"),
        ("茶壺", "file"),
        ("🫖.png", "file.png"),
        ("invoice\u202egnp.exe", "invoicegnp.exe"),
        ("\u200fname\u200e.png", "name.png"),
        ("a\x00b.png", "a_b.png"),
        ("a\r\nSet-Cookie: x.png", "a_Set-Cookie_x.png"),
        ('quote".png', "quote_.png"),
        ("100%.png", "100_.png"),
        ("a?b#c.png", "a_b_c.png"),
        ("ﬁle.png", "file.png"),
        ("\ud800.png", "file.png"),
    ],
)
def test_examples(name: str, safe: str) -> None:
    """Folders and hidden characters go, accents are dropped, the rest becomes underscores."""
    assert safe_file_name(name) == safe


@pytest.mark.parametrize("name", ["CON", "NUL.png", "com1.txt", "name. ", "a:stream"])
def test_windows_names_are_legal_keys(name: str) -> None:
    """Names that are special on Windows are ordinary here, but stay within the pattern."""
    assert _FILE_NAME.validate_python(safe_file_name(name))


def test_long_name_keeps_its_extension() -> None:
    """A name of 300 characters is cut to 100, before its extension."""
    safe = safe_file_name("x" * 300 + ".png")
    assert len(safe) == 100
    assert safe.endswith("x.png")


def test_long_name_without_extension() -> None:
    """A long name without an extension is cut at 100 characters."""
    assert safe_file_name("x" * 300) == "x" * 100
    assert len(safe_file_name("a." + "x" * 300)) == 100


@given(st.text(max_size=400))
@example("." * 300 + "x" * 300)
@example("x." * 200)
@example("x" * 95 + "." * 20 + "png")
@example("x" * 94 + "_" * 20 + "." + "y" * 9)
def test_any_text_becomes_a_file_name(name: str) -> None:
    """Whatever the text, the result is a file name of the contract, and safe already."""
    safe = safe_file_name(name)
    assert _FILE_NAME.validate_python(safe) == safe
    assert safe_file_name(safe) == safe


@given(st.text(max_size=300))
def test_upload_stays_in_its_folder(name: str) -> None:
    """No name leads an upload out of its user's and ticket's folder."""
    key = upload_key(_ID, _ID, name)
    assert re.fullmatch(rf"uploads/{_ID}/{_ID}/[A-Za-z0-9][A-Za-z0-9._-]*", key)


def test_artifact_key_names_the_attempt() -> None:
    """An artifact's key holds its job and attempt, so that zombies cannot overwrite the winner."""
    assert artifact_key(_ID, UUID(int=1), "model.glb") == f"jobs/{_ID}/{UUID(int=1)}/model.glb"
