"""A job's parameters against its model's schema."""

from typing import Any

import pytest

from app.catalog.errors import InvalidParametersError, PromptError
from app.catalog.parameters import check_prompt, complete_parameters, default_parameters
from app.catalog.tables import Model, PromptPolicy

SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image"],
    "properties": {
        "image": {"type": "string", "format": "upload", "x-accept": [], "x-max-bytes": 1},
        "size": {"type": "integer", "enum": [512, 1024], "default": 1024},
        "ratio": {"type": "number", "minimum": 0.1, "maximum": 1, "default": 0.85},
        "count": {"type": "integer", "not": {"const": 13}, "description": "Never thirteen."},
        "box": {"type": "array", "items": {"type": "number"}, "maxItems": 2},
        "odd/name~": {"type": "integer"},
        "text": {"type": "string", "maxLength": 20_000},
        "nested": {"type": "object"},
        "flag": {"type": "boolean", "default": False},
    },
}


@pytest.fixture
def model() -> Model:
    return Model(id="some-model", parameters=SCHEMA, prompt_policy=PromptPolicy.NONE)


def _problems(model: Model, given: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidParametersError) as caught:
        complete_parameters(model, given)
    problems = {error["pointer"]: error["detail"] for error in caught.value.errors}
    first = caught.value.errors[0]
    assert caught.value.detail == f"{first['pointer']}: {first['detail']}"
    return problems


def test_defaults_are_filled_in(model: Model) -> None:
    """What is left out gets its default; what is given stays; what has none stays out."""
    assert complete_parameters(model, {"image": "x", "ratio": 0.5}) == {
        "image": "x",
        "size": 1024,
        "ratio": 0.5,
        "flag": False,
    }


def test_given_is_not_changed(model: Model) -> None:
    """Completing works on a copy."""
    given = {"image": "x"}
    complete_parameters(model, given)
    assert given == {"image": "x"}
    assert default_parameters(SCHEMA) == {"size": 1024, "ratio": 0.85, "flag": False}


@pytest.mark.parametrize(
    ("given", "pointer", "detail"),
    [
        ({}, "/input_params/image", "is required by some-model"),
        ({"image": "x", "size": 700}, "/input_params/size", "must be one of 512, 1024"),
        ({"image": "x", "ratio": 0}, "/input_params/ratio", "must be at least 0.1"),
        ({"image": "x", "ratio": 2}, "/input_params/ratio", "must be at most 1"),
        ({"image": "x", "ratio": "1"}, "/input_params/ratio", "must be of type number"),
        ({"image": "x", "ratio": True}, "/input_params/ratio", "must be of type number"),
        ({"image": None}, "/input_params/image", "must be of type string"),
        ({"image": "x", "count": 13}, "/input_params/count", "Never thirteen."),
        ({"image": "x", "box": [0, "1"]}, "/input_params/box/1", "must be of type number"),
        ({"image": "x", "box": [0, 1, 2]}, "/input_params/box", "is too long"),
        ({"image": "x", "odd/name~": "1"}, "/input_params/odd~1name~0", "must be of type integer"),
        ({"image": "x", "siez": 1}, "/input_params/siez", "is not a parameter of some-model"),
    ],
)
def test_wrong_values_are_pointed_at(
    model: Model, given: dict[str, Any], pointer: str, detail: str
) -> None:
    """Each wrong value is named by its JSON pointer, with a sentence that says what it must be."""
    assert detail in _problems(model, given)[pointer]


def test_every_wrong_value_is_named(model: Model) -> None:
    """Several wrong values are named at once."""
    found = _problems(model, {"size": 1, "ratio": 9})
    assert set(found) == {"/input_params/image", "/input_params/size", "/input_params/ratio"}


def test_unknown_parameter_lists_the_known(model: Model) -> None:
    """A mistyped name is answered with the names there are."""
    assert "ratio, size" in _problems(model, {"image": "x", "siez": 1})["/input_params/siez"]


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (float("nan"), "must be a finite number"),
        (float("inf"), "must be a finite number"),
        (float("-inf"), "must be a finite number"),
        (1 << 63, "is too large a number"),
        (-(1 << 63), "is too large a number"),
        pytest.param(10**5000, "is too large a number", id="5001 digits"),
        ("a\x00b", "has a character that cannot be stored"),
        ("\ud800", "has a character that cannot be stored"),
        ("a\udfff", "has a character that cannot be stored"),
        ("x" * 10_001, "is longer than 10000 characters"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_unstorable_values(model: Model, value: Any, detail: str, *, nested: bool) -> None:
    """What JSON allows but no database holds is refused at any depth, before any schema."""
    given = {"nested": {"list": [0, value]}} if nested else {"text": value}
    pointer = "/input_params/nested/list/1" if nested else "/input_params/text"
    assert _problems(model, given) == {pointer: detail}


@pytest.mark.parametrize("name", ["a\x00", "\ud800"])
def test_unstorable_names(model: Model, name: str) -> None:
    """A name that cannot be stored is refused without being repeated."""
    assert _problems(model, {"nested": {name: 1}}) == {
        "/input_params/nested": "a name in it has a character that cannot be stored"
    }


def test_largest_storable_values(model: Model) -> None:
    """The largest numbers and longest text that can be stored are let through."""
    given = {"image": "x", "text": "x" * 10_000, "nested": {"a": (1 << 63) - 1, "b": 1e308}}
    assert complete_parameters(model, given).items() >= given.items()


def test_number_of_problems_is_bounded(model: Model) -> None:
    """A hundred thousand wrong values are answered with some of them."""
    assert 1 <= len(_problems(model, {"image": "x", "box": ["x"] * 100_000})) <= 20


@pytest.mark.parametrize(
    ("policy", "prompt", "kept"),
    [
        (PromptPolicy.REQUIRED, " a teapot ", "a teapot"),
        (PromptPolicy.OPTIONAL, "a teapot", "a teapot"),
        (PromptPolicy.OPTIONAL, "  ", None),
        (PromptPolicy.OPTIONAL, None, None),
        (PromptPolicy.NONE, None, None),
        (PromptPolicy.NONE, "", None),
    ],
)
def test_prompt(model: Model, policy: PromptPolicy, prompt: str | None, kept: str | None) -> None:
    """A prompt is kept without blanks around it; an empty one is none."""
    model.prompt_policy = policy
    assert check_prompt(model, prompt) == kept


@pytest.mark.parametrize(
    ("policy", "prompt", "sentence"),
    [
        (PromptPolicy.REQUIRED, None, "needs a prompt"),
        (PromptPolicy.REQUIRED, " \n ", "needs a prompt"),
        (PromptPolicy.NONE, "a teapot", "takes no prompt"),
        (PromptPolicy.OPTIONAL, "a\x00b", "cannot be stored"),
        (PromptPolicy.OPTIONAL, "\ud800", "cannot be stored"),
    ],
)
def test_wrong_prompts(
    model: Model, policy: PromptPolicy, prompt: str | None, sentence: str
) -> None:
    """A prompt that is missing, unwanted or unstorable is pointed at."""
    model.prompt_policy = policy
    with pytest.raises(PromptError, match=sentence) as caught:
        check_prompt(model, prompt)
    assert [error["pointer"] for error in caught.value.errors] == ["/prompt"]


FORMATS = {
    "type": "array",
    "items": {"enum": ["glb", "obj", "stl"]},
    "minItems": 1,
    "uniqueItems": True,
    "default": ["glb"],
}


@pytest.fixture
def exporter() -> Model:
    """A model with a parameter that is a list."""
    schema = {"type": "object", "additionalProperties": False, "properties": {"formats": FORMATS}}
    return Model(id="exporter", parameters=schema, prompt_policy=PromptPolicy.NONE)


def test_a_list(exporter: Model) -> None:
    """A list is taken as it is, or its default stands in for it."""
    assert complete_parameters(exporter, {}) == {"formats": ["glb"]}
    given = {"formats": ["stl", "glb"]}
    assert complete_parameters(exporter, given) == given


@pytest.mark.parametrize(
    ("formats", "pointer"),
    [
        (["glb", "exe"], "/input_params/formats/1"),
        ([["glb"]], "/input_params/formats/0"),
        (["glb", "glb"], "/input_params/formats"),
        ([], "/input_params/formats"),
        ("glb", "/input_params/formats"),
        (None, "/input_params/formats"),
    ],
)
def test_a_wrong_list(exporter: Model, formats: Any, pointer: str) -> None:
    """What is wrong is named down to the place in the list."""
    assert _problems(exporter, {"formats": formats}).keys() == {pointer}
