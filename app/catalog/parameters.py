"""A job's parameters against its model's JSON Schema (draft 2020-12).

A property of `"format": "upload"` names an object that the client has uploaded. Beside it stand
`x-accept` (media types by magic bytes), `x-max-bytes` and, for pictures, `x-max-pixels`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import jsonschema
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from app.catalog.errors import InvalidParametersError, PromptError
from app.catalog.tables import Model, PromptPolicy
from app.errors import FieldError

_MAX_ERRORS = 20
_MAX_STRING = 10_000
_MAX_VALUES = 2_000
"""More would keep the schema's validator, and with it everybody else, waiting."""


@dataclass(frozen=True)
class UploadParameter:
    """A parameter that names an uploaded object, and what is accepted there."""

    name: str
    accept: frozenset[str]
    max_bytes: int
    max_pixels: int | None

    @property
    def pointer(self) -> str:
        """Where it stands in the body of a create request."""
        return f"/input_params/{self.name}"


_validators: WeakKeyDictionary[Model, Draft202012Validator] = WeakKeyDictionary()


def _validator(model: Model) -> Draft202012Validator:
    """Made once for a model that is kept, however many jobs are checked against it."""
    validator = _validators.get(model)
    if validator is None or validator.schema is not model.parameters:
        validator = _validators[model] = Draft202012Validator(model.parameters)
    return validator


def check_schema(schema: dict[str, Any]) -> None:
    """Raise `jsonschema.SchemaError` unless this is a usable parameter schema."""
    Draft202012Validator.check_schema(schema)
    if schema.get("type") != "object" or schema.get("additionalProperties") is not False:
        raise jsonschema.SchemaError(
            "a parameter schema must be of type object without additional properties"
        )


def upload_parameters(schema: dict[str, Any]) -> list[UploadParameter]:
    """The parameters of a model that name uploaded objects."""
    return [
        UploadParameter(
            name=name,
            accept=frozenset(rules["x-accept"]),
            max_bytes=int(rules["x-max-bytes"]),
            max_pixels=rules.get("x-max-pixels"),
        )
        for name, rules in schema.get("properties", {}).items()
        if rules.get("format") == "upload"
    ]


def default_parameters(schema: dict[str, Any]) -> dict[str, Any]:
    """The values that stand in for parameters that are left out."""
    return {
        name: rules["default"]
        for name, rules in schema.get("properties", {}).items()
        if "default" in rules
    }


def complete_parameters(model: Model, given: dict[str, Any]) -> dict[str, Any]:
    """The parameters checked against the model's schema and completed with its defaults.

    Raises:
        InvalidParametersError: names every wrong value by its JSON pointer.
    """
    if _count_values(given, _MAX_VALUES) > _MAX_VALUES:
        detail = f"has more than {_MAX_VALUES} values in all"
        raise InvalidParametersError(
            f"/input_params: {detail}", errors=[{"pointer": "/input_params", "detail": detail}]
        )
    problems = list(_unstorable(given, "/input_params"))
    if not problems:
        for error in _validator(model).iter_errors(given):
            problems.append({"pointer": _pointer(error, model), "detail": _explain(error, model)})
            if len(problems) >= _MAX_ERRORS:
                break
    if problems:
        first = problems[0]
        raise InvalidParametersError(f"{first['pointer']}: {first['detail']}", errors=problems)
    return {**default_parameters(model.parameters), **given}


def check_prompt(model: Model, prompt: str | None) -> str | None:
    """The prompt, stripped, if the model's policy allows it.

    Raises:
        PromptError: it is missing where the model needs one, or given where it takes none.
    """
    text = (prompt or "").strip()
    pointer = "/prompt"
    if not text and model.prompt_policy == PromptPolicy.REQUIRED:
        detail = f"{model.id} needs a prompt: say in words what to make."
        raise PromptError(detail, errors=[{"pointer": pointer, "detail": detail}])
    if text and model.prompt_policy == PromptPolicy.NONE:
        detail = f"{model.id} takes no prompt; leave it out."
        raise PromptError(detail, errors=[{"pointer": pointer, "detail": detail}])
    problems = list(_unstorable(text, pointer))
    if problems:
        raise PromptError(f"{pointer}: {problems[0]['detail']}", errors=problems)
    return text or None


def _count_values(value: Any, limit: int) -> int:
    """How many values a JSON value holds; counts no further than the limit."""
    count, waiting = 0, [value]
    while waiting and count <= limit:
        item = waiting.pop()
        children = item.values() if isinstance(item, dict) else item
        if isinstance(item, dict | list):
            count += len(item)
            if count <= limit:
                waiting.extend(children)
    return count


def _unstorable(value: Any, pointer: str) -> Iterator[FieldError]:
    """What JSON (or Python's idea of it) allows but no database or worker can hold."""
    if isinstance(value, dict):
        for key, item in value.items():
            if detail := _unstorable_scalar(key):
                yield {"pointer": pointer, "detail": f"a name in it {detail}"}
            else:
                yield from _unstorable(item, f"{pointer}/{_escape(key)}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unstorable(item, f"{pointer}/{index}")
    elif detail := _unstorable_scalar(value):
        yield {"pointer": pointer, "detail": detail}


def _unstorable_scalar(value: Any) -> str | None:
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
            return "has a character that cannot be stored"
        if len(value) > _MAX_STRING:
            return f"is longer than {_MAX_STRING} characters"
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return "is too large a number"
    return None


def _escape(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")[:100]


def _pointer(error: ValidationError, model: Model) -> str:
    path = [str(part) for part in error.absolute_path]
    given: Any = error.instance
    required: Any = error.validator_value
    if error.validator == "required":
        path.append(next((name for name in required if name not in given), ""))
    elif error.validator == "additionalProperties":
        known = model.parameters.get("properties", {})
        path.append(next((name for name in given if name not in known), ""))
    return "/input_params" + "".join(f"/{_escape(part)}" for part in path)


def _description(error: ValidationError) -> str:
    return str(error.schema.get("description", "")) if isinstance(error.schema, dict) else ""


def _explain(error: ValidationError, model: Model) -> str:
    limit: Any = error.validator_value
    sentences = {
        "required": f"is required by {model.id}",
        "additionalProperties": f"is not a parameter of {model.id}; it has "
        + ", ".join(sorted(model.parameters.get("properties", {}))),
        "enum": f"must be one of {limit}".replace("[", "").replace("]", ""),
        "minimum": f"must be at least {limit}",
        "maximum": f"must be at most {limit}",
        "type": f"must be of type {limit}",
        "not": f"is not possible here. {_description(error)}",
    }
    return sentences.get(str(error.validator), error.message[:200])
