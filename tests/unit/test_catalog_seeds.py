"""The catalog that the platform is delivered with."""

import json
from typing import Any

import jsonschema
import pytest
from jsonschema import Draft202012Validator

from app.catalog.parameters import check_schema, default_parameters, upload_parameters
from app.catalog.tables import Model, PromptPolicy
from app.initial_data import SEEDS
from contract.containers import VIDEO_TYPES
from contract.kinds import ArtifactKind

MODELS: list[dict[str, Any]] = json.loads(SEEDS.read_text())
EVERY_MODEL = pytest.mark.parametrize("model", MODELS, ids=[model["id"] for model in MODELS])


def test_ids_are_unique() -> None:
    """No two models share an id, and the promised ones are there."""
    ids = [model["id"] for model in MODELS]
    assert len(ids) == len(set(ids))
    videos = {"video-frames-v1", "video-analytics-v1"}
    assert {"inflate-v1", "sf3d-v1", "dreamfusion-sd"} | videos <= set(ids)


@EVERY_MODEL
def test_schema_is_valid(model: dict[str, Any]) -> None:
    """Every parameter schema is a valid draft 2020-12 schema that takes nothing unknown."""
    assert model["parameters"]["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(model["parameters"])
    check_schema(model["parameters"])


@EVERY_MODEL
def test_defaults_are_valid(model: dict[str, Any]) -> None:
    """Every default is valid under its own property's schema."""
    properties = model["parameters"]["properties"]
    defaults = default_parameters(model["parameters"])
    assert defaults
    for name, default in defaults.items():
        Draft202012Validator(properties[name]).validate(default)


@EVERY_MODEL
def test_parameters_are_explained(model: dict[str, Any]) -> None:
    """Every parameter has a title and a description, and is required or has a sensible absence."""
    for name, rules in model["parameters"]["properties"].items():
        assert rules["title"], name
        assert rules["description"], name
    assert set(model["parameters"].get("required", [])) <= set(model["parameters"]["properties"])


@EVERY_MODEL
def test_uploads_have_limits(model: dict[str, Any]) -> None:
    """Every upload says which types and how many bytes are accepted."""
    for upload in upload_parameters(model["parameters"]):
        assert upload.accept <= {"image/png", "image/jpeg", "image/webp"} | VIDEO_TYPES
        assert 0 < upload.max_bytes <= 512 * 2**20
        assert upload.max_pixels == (None if upload.accept <= VIDEO_TYPES else 4096**2)


@EVERY_MODEL
def test_columns_are_known(model: dict[str, Any]) -> None:
    """Every key is a column, and the values that code depends on are ones it knows."""
    assert set(model) <= set(Model.__table__.columns.keys())
    assert model["prompt_policy"] in set(PromptPolicy)
    assert model["main_artifact"] in set(ArtifactKind)
    assert 1 <= model["max_attempts"] <= 20


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "additionalProperties": True},
        {"type": "array", "additionalProperties": False},
        {"type": "nonsense", "additionalProperties": False},
    ],
)
def test_unusable_schemas_are_refused(schema: dict[str, Any]) -> None:
    """A schema that is invalid, or would let unknown parameters pass, does not get in."""
    with pytest.raises(jsonschema.SchemaError):
        check_schema(schema)
