"""Where a configuration breaks its schema, one sentence for each place."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema


def yaml_mistakes(node: Any, key: str = "") -> Iterator[str]:
    """What YAML can say and JSON cannot: keys that are not text, and numbers that are none."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            if isinstance(name, str):
                yield from yaml_mistakes(value, join_key(key, name))
            else:
                where = f"`{key}`" if key else "the configuration"
                yield f"{where} has the key {name!r}, which is not text: write it in quotes"
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from yaml_mistakes(value, f"{key}[{index}]")
    elif isinstance(node, float) and not math.isfinite(node):
        yield f"`{key}` is {node}: give a number, or null where there is no limit"


# JSON Schema takes 4.0 for a whole number; a command line does not.
_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


def schema_mistakes(config: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each place where ``config`` breaks ``schema``."""
    errors = _Validator(schema).iter_errors(config)
    in_order = sorted(errors, key=lambda error: [str(part) for part in error.absolute_path])
    # What is no block at all needs no word about the keys that it lacks.
    told = [error for error in in_order if not (_chooses_a_key(error) and not isinstance(error.instance, Mapping))]
    return list(dict.fromkeys(map(_sentence, told)))


def _chooses_a_key(error: jsonschema.ValidationError) -> bool:
    return error.validator == "oneOf" and all("required" in option for option in error.schema["oneOf"])


def _sentence(error: jsonschema.ValidationError) -> str:
    key = _key(error.absolute_path)
    where = f"`{key}`" if key else "the configuration"
    wanted = error.schema
    if error.validator == "additionalProperties":
        allowed = list(wanted.get("properties", {}))
        unknown = [name for name in error.instance if name not in allowed]
        return "; ".join(
            f"`{join_key(key, name)}` is not a key that exists{suggestion(str(name), allowed)}" for name in unknown
        )
    if error.validator == "required":
        missing = [name for name in wanted["required"] if name not in error.instance]
        return f"{where} lacks " + ", ".join(f"`{name}`" for name in missing)
    if _chooses_a_key(error):
        choices = [option["required"][0] for option in wanted["oneOf"]]
        given = [f"`{name}`" for name in choices if name in error.instance]
        found = f"has {' and '.join(given)}" if given else "has none"
        return f"{where} {found} of " + ", ".join(f"`{name}`" for name in choices) + ": give exactly one"
    if "propertyNames" in error.absolute_schema_path:
        return f"{error.instance!r} in {where} cannot be a name: begin with a letter or digit, then also `_` and `-`"
    found = f"{where} is {error.instance!r}"
    description = " ".join(wanted.get("description", "").split())
    purpose = f" ({description.rstrip('.')})" if description else ""
    if error.validator == "enum":
        return f"{found}, expected one of {', '.join(map(str, wanted['enum']))}{purpose}"
    if error.validator == "type":
        return f"{found}, expected {_type_name(wanted['type'])}{purpose}{_number_hint(error.instance)}"
    limits = {
        "minimum": "at least {}",
        "maximum": "at most {}",
        "exclusiveMinimum": "more than {}",
        "exclusiveMaximum": "less than {}",
        "minItems": "at least {} entries",
        "minProperties": "at least {} entries",
        "minLength": "at least {} character",
        "maxLength": "at most {} characters",
        "pattern": "text of the form {}",
    }
    if error.validator in limits:
        return f"{found}, expected {limits[error.validator].format(error.validator_value)}{purpose}"
    if error.validator == "oneOf":
        return f"{found}, which has none of the forms that are allowed here{purpose}; see config/README.md"
    return f"{where}: {error.message}"


def _key(path: Any) -> str:
    key = ""
    for part in path:
        key = f"{key}[{part}]" if isinstance(part, int) else join_key(key, part)
    return key


def join_key(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)


def suggestion(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean `{close[0]}`?"
    return "; known are " + ", ".join(f"`{item}`" for item in known) if known else ""


def _type_name(types: str | list[str]) -> str:
    words = {"integer": "a whole number", "number": "a number", "string": "text", "array": "a list"}
    words |= {"object": "a block of keys", "boolean": "true or false", "null": "null"}
    return " or ".join(words[name] for name in ([types] if isinstance(types, str) else types))


def _number_hint(value: object) -> str:
    """YAML 1.1 reads ``1e-4`` as text: a float needs a dot and a signed exponent."""
    if not isinstance(value, (str, float)):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    if isinstance(value, str) and "e" in value.lower():
        return f"; YAML wants {number:.1e}"
    if number.is_integer():
        return f"; write it as {int(number)}"
    return f"; write it as {number}" if isinstance(value, str) else ""
