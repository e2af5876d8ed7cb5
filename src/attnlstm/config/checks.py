"""Validation of plain values by the schema, with one-line messages for what does not fit.

Values come from conf/, the command line and checkpoint files, possibly written by strangers:
nothing in them is imported, called or silently dropped.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from functools import cache
from itertools import islice
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from attnlstm.config.data import SOURCES
from attnlstm.errors import UserError

Config = TypeVar("Config", bound=BaseModel)

Settings = Mapping[str, dict[str, Any]]
"""The JSON schema (type, limits, choices, default, description) of each full key."""

SECTION = "a section with keys of its own"

PLAIN_TYPES = {
    "integer": "int",
    "number": "float",
    "string": "str",
    "boolean": "bool (true or false)",
    "null": "null",
    "object": SECTION,
}

LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


class ConfigError(UserError):
    """A value or a key that does not fit; `key` is the full key."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def validate(values: Any, schema: type[Config]) -> Config:
    """Return the typed config of plain values; omitted keys have the schema's defaults.

    Raises:
        UserError: a key, type, choice or number does not fit; the message names the full key.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise _explain(error.errors(), values, list_settings(schema)) from error


def check_value(key: str, value: Any, hint: Any) -> None:
    """Raise a UserError if a value does not match a type hint, such as one of torch's."""
    adapter = TypeAdapter(hint, config=ConfigDict(strict=True, arbitrary_types_allowed=True))
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        raise wrong_value(key, value, adapter.json_schema()) from error


def check_choice(key: str, value: str | list[str], known: Sequence[str]) -> None:
    """Raise a UserError if a name, or an item of a list of names, is unknown."""
    names = [value] if isinstance(value, str) else value
    if unknown := [name for name in names if name not in known]:
        wrong_items = [] if isinstance(value, str) else unknown
        raise wrong_value(key, value, {"enum": known}, wrong_items)


@cache
def list_settings(schema: type[BaseModel]) -> Settings:
    """Return the settings of a model and its sections; "" is the key of the whole model."""
    root = schema.model_json_schema()
    settings: dict[str, dict[str, Any]] = {}

    def add(key: str, node: dict[str, Any]) -> None:
        settings.setdefault(key, node)
        for option in [node, *node.get("anyOf", ()), *node.get("oneOf", ())]:
            if "$ref" in option:
                option = root["$defs"][option["$ref"].rpartition("/")[2]]
            for name, inner in option.get("properties", {}).items():
                if name == node.get("discriminator", {}).get("propertyName"):
                    inner = {"enum": list(SOURCES), "description": "where the rows come from"}
                add(_join(key, name), inner)
        for name, description in node.get("keys", {}).items():
            settings[_join(key, name)] = {"description": description}

    add("", root)
    return settings


def is_section(node: Mapping[str, Any]) -> bool:
    """Return whether the schema defines keys below this one."""
    options = [node, *node.get("anyOf", ())]
    return "oneOf" in node or any("$ref" in option or "properties" in option for option in options)


def can_be_off(node: Mapping[str, Any]) -> bool:
    """Return whether this is a section that null turns off."""
    return is_section(node) and {"type": "null"} in node.get("anyOf", ())


def is_within(key: str, section: str) -> bool:
    """Return whether a key is this section or lies in it."""
    return f"{key}.".startswith(f"{section}.")


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return the full keys and values of everything that is not a section."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        flat |= flatten(value, f"{key}.") if isinstance(value, dict) else {key: value}
    return flat


def unknown_key(key: str, known: Iterable[str]) -> ConfigError:
    """Return the error for a key that does not exist, with the most similar one that does."""
    known = list(known)
    section, meant = key.rpartition(".")[0], ""
    if section in known and not any(other.startswith(f"{section}.") for other in known):
        meant = section  # which has a value and no keys
    name = key
    while not meant and name and name not in known:  # the mistake may be in a section's name
        meant, name = similar(name, known), name.rpartition(".")[0]
    listing = "--cfg hydra" if is_within(key, "hydra") else "--help=all"
    hint = f": did you mean {meant}?" if meant else f"; {listing} lists the keys"
    return ConfigError(key, f"unknown key {key}{hint}")


def wrong_value(
    key: str, value: Any, node: Mapping[str, Any], wrong_items: Sequence[Any] = ()
) -> ConfigError:
    """Return the error for a value, or items of a list, that the schema of the key forbids."""
    wrong = show(wrong_items[0] if wrong_items else value)
    meant = similar(wrong, _choices(node))
    message = f"{key}={show(value)}: expected {describe(node)}"
    message += f", not {wrong}" if wrong_items else ""
    return ConfigError(key, message + (f"; did you mean {meant}?" if meant else ""))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the most similar name; the part after the last dot or slash counts twice.

    A file may have many long names: only the first 2,000 are compared, by 100 characters each.
    """
    candidates = islice(filter(None, known), 2000)
    return max(
        candidates, key=lambda other: _ratio(name, other) + _end_ratio(name, other), default=""
    )


def similar(name: str, known: Iterable[str]) -> str:
    """Return the most similar name, or "" if it is too different to be what was meant."""
    best = nearest(name, known)
    return best if _end_ratio(name, best) >= 0.6 else ""


def _ratio(name: str, other: str) -> float:
    return SequenceMatcher(None, name[:100].lower(), other[:100].lower()).ratio()


def _end_ratio(name: str, other: str) -> float:
    return _ratio(*(re.split("[./]", text[:100])[-1] for text in (name, other)))


def describe(node: Mapping[str, Any]) -> str:
    """Return what a JSON schema allows, in the words of a message."""
    if "anyOf" in node:
        return " or ".join(map(describe, node["anyOf"]))
    if is_section(node):
        return SECTION
    if "meaning" in node:
        return str(node["meaning"])
    if "prefixItems" in node:
        return f"[{', '.join(map(describe, node['prefixItems']))}]"
    if node.get("type") == "array":
        return f"a list of {describe(node['items']).removeprefix('one of ')}"
    if "const" in node:
        return show(node["const"])
    if "enum" in node:
        return f"one of {', '.join(_choices(node))}"
    limits = " and ".join(f"{sign} {node[name]:,}" for name, sign in LIMITS.items() if name in node)
    at_least = "non-empty " * ("minLength" in node)
    return at_least + PLAIN_TYPES[node["type"]] + f" {limits}" * bool(limits)


def show(value: Any) -> str:
    """Return a value as it is written on the command line."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(show, value))}]"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _explain(errors: list[ErrorDetails], values: Any, settings: Settings) -> UserError:
    kind, location = errors[0]["type"], errors[0]["loc"]
    key, value, wrong_items = "", values, []
    for depth, part in enumerate(location):
        if part in settings[key].get("discriminator", {}).get("mapping", ()):
            continue  # the kind of section
        inner = _join(key, str(part))
        if inner not in settings and (not is_section(settings[key]) or part not in value):
            # The rest of the location is a type of a union, an item of a list, or both.
            same_key = [error for error in errors if error["loc"][:depth] == location[:depth]]
            wrong_items = [
                error["input"] for error in same_key if isinstance(error["loc"][-1], int)
            ]
            break
        key, value = inner, value.get(part, ...)
        if key not in settings or "." in str(part):
            return unknown_key(key, settings)
    if kind == "missing":
        return ConfigError(key, f"{key} must be given: add {key}=...")
    if kind == "union_tag_invalid":
        key, value = f"{key}.source", value["source"]
    if kind == "extra_forbidden":
        name, source = key.rpartition(".")[2], values["data"].get("source", "archive")
        others = [other for other, model in SOURCES.items() if name in model.model_fields]
        return ConfigError(
            key,
            f"{key}={show(value)} means nothing to data={source}: choose "
            f"{' or '.join(f'data={other}' for other in others)}, or leave {key} out",
        )
    return wrong_value(key, value, settings[key], wrong_items)


def _join(section: str, name: str) -> str:
    return f"{section}.{name}".removeprefix(".")


def _choices(node: Mapping[str, Any]) -> list[str]:
    own = node.get("enum", [node["const"]] if "const" in node else [])
    if node.get("type") == "boolean":
        own = [True, False]
    inner = [*node.get("anyOf", ()), *([node["items"]] if node.get("items") else ())]
    return [*map(show, own), *(choice for option in inner for choice in _choices(option))]
