"""Plain values to what the schema says they are, with one line of complaint for what does not fit.

Values come from conf/, from the command line and out of checkpoint files, possibly from strangers:
nothing in them is imported, called or silently dropped.
"""

import json
import re
from collections.abc import Iterable, Mapping
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
"""Full keys, and what each may hold as a JSON schema: type, limits, choices, default, description.
"""

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
    """A value or a key that does not fit; `key` is the full one."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def validate(values: Any, schema: type[Config]) -> Config:
    """The typed config of plain values; a key that is left out has the schema's default.

    Raises:
        UserError: a key, a type, a choice or a number does not fit; it names the full key.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise _explain(error.errors()[0], values, list_settings(schema)) from error


def check_value(key: str, value: Any, hint: Any) -> None:
    """Raise a UserError if a value is not of a type, such as that of an argument of torch's."""
    adapter = TypeAdapter(hint, config=ConfigDict(strict=True, arbitrary_types_allowed=True))
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        raise wrong_value(key, value, adapter.json_schema()) from error


def check_choice(key: str, value: str | list[str], known: Iterable[str]) -> None:
    """Raise a UserError if a name, or one of several, is not one of those that are known."""
    known = list(known)
    for name in [value] if isinstance(value, str) else value:
        if name not in known:
            raise wrong_value(key, name, {"enum": known})


@cache
def list_settings(schema: type[BaseModel]) -> Settings:
    """Every full key of a model, those of its sections too, and "" for the whole."""
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
    """Whether the keys below are the schema's to know."""
    options = [node, *node.get("anyOf", ())]
    return "oneOf" in node or any("$ref" in option or "properties" in option for option in options)


def can_be_off(node: Mapping[str, Any]) -> bool:
    """Whether this is a section that null turns off."""
    return is_section(node) and {"type": "null"} in node.get("anyOf", ())


def unknown_key(key: str, known: Iterable[str]) -> ConfigError:
    """The complaint about a key that does not exist, with the nearest that does."""
    known = list(known)
    meant = nearest(key, known)
    parent, _, name = key.rpartition(".")
    siblings = [other for other in known if other and other.rpartition(".")[0] == parent]
    if siblings and SequenceMatcher(None, name, meant.rpartition(".")[2]).ratio() < 0.6:
        meant = nearest(key, siblings)  # nothing is similar: stay in the section that was named
    elif not siblings and parent in known:
        meant = parent  # which has a value, and no keys
    return ConfigError(key, f"unknown key {key}: did you mean {meant}?")


def wrong_value(key: str, value: Any, node: Mapping[str, Any]) -> ConfigError:
    """The complaint about a value that is not what the schema of its key says."""
    choices = _choices(node)
    if not isinstance(value, str):
        choices = [choice for choice in choices if choice not in ("true", "false")]
    meant = f"; did you mean {nearest(show(value), choices)}?" if choices else ""
    return ConfigError(key, f"{key}={show(value)}: expected {describe(node)}{meant}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The most similar name; the part after the last dot or slash counts as much as the whole.

    A file may have many long names: only the first 2,000 are compared, by 100 characters each.
    """

    def similarity(candidate: str) -> float:
        whole = name[:100].lower(), candidate[:100].lower()
        ends = tuple(re.split("[./]", text)[-1] for text in whole)
        return sum(SequenceMatcher(None, a, b).ratio() for a, b in (whole, ends))

    return max(islice(filter(None, known), 2000), key=similarity, default="")


def describe(node: Mapping[str, Any]) -> str:
    """What a JSON schema allows, in the words of a message."""
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
    limits = " and ".join(f"{sign} {node[name]}" for name, sign in LIMITS.items() if name in node)
    return PLAIN_TYPES[node["type"]] + f" {limits}" * bool(limits)


def show(value: Any) -> str:
    """A value as it is written on the command line."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _explain(error: ErrorDetails, values: Any, settings: Settings) -> UserError:
    key, value = "", values
    for part in error["loc"]:
        if part in settings[key].get("discriminator", {}).get("mapping", ()):
            continue  # which kind of section it is
        inner = _join(key, str(part))
        if inner not in settings and (not is_section(settings[key]) or part not in value):
            break  # an item of a list, or one of several types
        key, value = inner, value.get(part, ...)
        if key not in settings or "." in str(part):
            return unknown_key(key, settings)
    if error["type"] == "missing":
        return ConfigError(key, f"{key} must be given: add {key}=...")
    if error["type"] == "union_tag_invalid":
        key, value = f"{key}.source", value["source"]
    if error["type"] == "extra_forbidden":
        name, source = key.rpartition(".")[2], values["data"].get("source", "archive")
        others = [other for other, model in SOURCES.items() if name in model.model_fields]
        return ConfigError(
            key,
            f"{key}={show(value)} means nothing to data={source}: choose "
            f"{' or '.join(f'data={other}' for other in others)}, or leave {key} out",
        )
    return wrong_value(key, value, settings[key])


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _choices(node: Mapping[str, Any]) -> list[str]:
    own = node.get("enum", [node["const"]] if "const" in node else [])
    if node.get("type") == "boolean":
        own = [True, False]
    inner = [*node.get("anyOf", ()), *([node["items"]] if node.get("items") else ())]
    return [*map(show, own), *(choice for option in inner for choice in _choices(option))]
