"""Parsers of what users send, under bytes and values that nobody would send on purpose."""

import io
import json
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from mutations import KINDS, PICTURES, budget, mutated
from PIL import Image

from app.artifacts.inspection import contradicts, media_type_of, picture_size, refused_type
from app.catalog.errors import InvalidParametersError, PromptError
from app.catalog.parameters import check_prompt, complete_parameters
from app.catalog.tables import Model
from app.errors import AppError
from app.initial_data import SEEDS
from contract.kinds import ArtifactKind

T = TypeVar("T")

BUDGET = budget(200)
MEDIA_TYPES = st.sampled_from(
    [
        *("image/png", "image/jpeg", "image/webp", "video/mp4", "application/zip"),
        *("application/json", "text/plain", "model/gltf-binary", "model/ply", "text/html"),
    ]
)


ANY_TEXT = st.text(st.characters(), max_size=20)  # lone surrogates, too
FILES = mutated() | st.binary(max_size=2000)


@BUDGET
@given(head=FILES)
def test_any_bytes_have_a_type_or_none(head: bytes) -> None:
    """Whatever the bytes are, their type is a media type or unknown, and nothing is raised."""
    found = media_type_of(head)
    assert found is None or found.count("/") == 1


@BUDGET
@given(head=FILES)
def test_any_bytes_have_a_size_or_none(head: bytes) -> None:
    """Whatever the bytes are, they have a picture's size of two positive numbers, or none."""
    size = picture_size(head)
    assert size is None or (size[0] > 0 and size[1] > 0)


@BUDGET
@given(head=mutated())
def test_no_picture_is_larger_than_it_says(head: bytes) -> None:
    """A picture that a decoder would open is not larger than its header was read to say."""
    size = picture_size(head)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = Image.open(io.BytesIO(head), formats=["PNG", "JPEG", "WEBP"]).size
    except Exception:  # noqa: BLE001  (a decoder on hostile bytes may raise anything)
        return
    assert size is None or (size[0] >= opened[0] and size[1] >= opened[1])


@BUDGET
@given(head=FILES, media_type=MEDIA_TYPES, is_whole=st.booleans())
@example(head=b"[" * 100_000, media_type="application/json", is_whole=True)
def test_any_bytes_fit_their_type_or_not(head: bytes, media_type: str, *, is_whole: bool) -> None:
    """Whatever is declared of whatever bytes, the answer is a reason or nothing."""
    reason = contradicts(media_type, head, is_whole=is_whole)
    assert reason is None or reason.startswith(("is ", "has "))


@BUDGET
@given(kind=st.sampled_from(ArtifactKind), media_type=MEDIA_TYPES | ANY_TEXT)
def test_any_type_fits_a_kind_or_not(kind: ArtifactKind, media_type: str) -> None:
    """Whatever type is declared of a kind, the answer is a reason or nothing."""
    reason = refused_type(kind, media_type)
    assert reason is None or reason.startswith("is ")


def _models() -> list[Model]:
    seeds: list[dict[str, Any]] = json.loads(SEEDS.read_text())
    return [
        Model(id=s["id"], parameters=s["parameters"], prompt_policy=s["prompt_policy"])
        for s in seeds
    ]


MODELS = _models()
NAMES = sorted({name for model in MODELS for name in model.parameters["properties"]})
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(ANY_TEXT, inner, max_size=5),
    max_leaves=10,
)
PARAMETERS = st.dictionaries(st.sampled_from(NAMES) | ANY_TEXT, VALUES, max_size=6)


@BUDGET
@given(model=st.sampled_from(MODELS), given_=PARAMETERS)
@example(model=MODELS[0], given_={"\ud800": 1})
@example(model=MODELS[0], given_={"image_path": "a", "thickness": 10**400})
def test_parameters_are_completed_or_refused(model: Model, given_: dict[str, Any]) -> None:
    """Whatever is given, it is refused with pointers, or completed to what the schema accepts."""
    completed = _outcome(complete_parameters, model, given_)
    if isinstance(completed, AppError):
        assert isinstance(completed, InvalidParametersError)
        assert completed.errors
        for problem in completed.errors:
            assert problem["pointer"].startswith("/input_params")
            assert problem["detail"]
        # A problem is sent as JSON in UTF-8.
        json.dumps([completed.detail, completed.errors], ensure_ascii=False).encode()
        return
    Draft202012Validator(model.parameters).validate(completed)
    assert completed.items() >= given_.items()
    assert complete_parameters(model, completed) == completed
    json.dumps(completed, allow_nan=False).encode()


@BUDGET
@given(model=st.sampled_from(MODELS), prompt=st.none() | ANY_TEXT)
def test_prompts_are_stripped_or_refused(model: Model, prompt: str | None) -> None:
    """Whatever the prompt is, it is refused in words, or comes back stripped and storable."""
    checked = _outcome(check_prompt, model, prompt)
    if isinstance(checked, AppError):
        assert isinstance(checked, PromptError)
        assert checked.errors[0]["pointer"] == "/prompt"
        return
    assert checked is None or (checked == checked.strip() and "\0" not in checked)


def _outcome(parse: Callable[..., T], *given_: Any) -> T | AppError:
    try:
        return parse(*given_)
    except AppError as error:
        return error


@pytest.mark.parametrize("kind", KINDS)
def test_mutation_starts_from_pictures(kind: str) -> None:
    """The pictures that are mutated are good ones to begin with."""
    assert picture_size(PICTURES[kind]) == (40, 30)
