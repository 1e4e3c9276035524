"""Parameters as a form has them: text, meant as the model's schema says."""

import json
from collections.abc import Sequence
from typing import Any

from app.web.middleware import MAX_JSON_DEPTH, nesting_depth


def value_of(rules: Any, texts: Sequence[str]) -> Any:
    """The value that a field's text stands for; what fits no other type stays text.

    Whether it is a good value is for the schema to say, as of any other request.

    Args:
        rules: the parameter's schema; None of a parameter that the model does not have.
        texts: the field's values, several if it stands in the form more than once.
    """
    types = _types(rules)
    if len(texts) > 1:
        return list(texts)
    (text,) = texts
    if types == {"string"}:
        return text
    value = _parsed(text)
    if "array" in types and not isinstance(value, list | dict) and "string" not in types:
        return [text]
    # Of what may be text as well, only what can be nothing else is not.
    return text if "string" in types and not isinstance(value, list | dict) else value


def _types(rules: Any) -> set[str]:
    named = rules.get("type", "string") if isinstance(rules, dict) else "string"
    return {named} if isinstance(named, str) else set(named)


def _parsed(text: str) -> Any:
    if nesting_depth(text.encode()) > MAX_JSON_DEPTH:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
