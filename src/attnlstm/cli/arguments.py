"""The arguments of a command line in a form that Hydra's grammar accepts."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnlstm.config import checks
from attnlstm.config.checks import Config
from attnlstm.config.data import SOURCES
from attnlstm.config.schema import TrainConfig
from attnlstm.errors import UserError

HYDRAS_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")

QUOTED = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""

ITEM = re.compile(rf"\s*({QUOTED}|[^,]+?)\s*(?:,|$)")
"""An item of a list of names; within a name, a quote is an apostrophe."""

SPECIAL = re.compile(r"[^\w.,/~-]")

WORD = re.compile(rf"{QUOTED}|(?:\$\{{[^}}]*\}}|[^\[\]{{}},'\"])+")
SECTION_WORD = re.compile(rf"{QUOTED}|(?:\$\{{[^}}]*\}}|[^\[\]{{}},:'\"])+")
"""Something quoted, or anything else between the signs of lists and sections."""


def normalize(argument: str, config_dir: Path, schema: type[Config]) -> str:
    """Return a setting in a form in which Hydra accepts any key, with or without a +.

    Hydra itself refuses keys that no file of conf/ lists, although the schema knows them.
    """
    key, equals, value = argument.lstrip("+").partition("=")
    if not equals or key.startswith(("-", "~")):
        return argument
    if key.startswith("hydra"):
        quoted = _quote_letters(_quote_special(value) if key in HYDRAS_FOLDERS else value)
        return argument.removesuffix(value) + quoted if value else argument
    if (config_dir / key).is_dir() and not value.startswith("{"):  # the choice of a group
        if schema is TrainConfig and key == "data" and (Path(value).suffix or Path(value).exists()):
            raise UserError(
                f"data={value}: did you mean data=text_files data.train={value}, or "
                f"data=series_files data.train={value}? data is one of {', '.join(SOURCES)}"
            )
        return f"{key}={_quote_letters(value)}"
    if key == "text":
        return f"++{key}={quote(value)}"
    node = checks.list_settings(schema).get(key, {})
    if _has(node, "has_commas") and "," in value and value[:1] not in ("'", '"', "["):
        return f"++{key}='{value}'"  # elsewhere a comma stands between the values of a sweep
    if _has(node, "verbatim"):  # the shell's quotes are enough
        if value[:1] == "[" and value[-1:] == "]":
            value = f"[{','.join(map(_quote_special, ITEM.findall(value[1:-1])))}]"
        else:
            value = _quote_special(value)
    return f"++{key}={_quote_letters(value)}"


def _has(node: Mapping[str, Any], mark: str) -> bool:
    """Return whether a key, or the items of its lists, have a mark in the schema."""
    options = [node, *node.get("anyOf", ())]
    return any(mark in {**option, **option.get("items", {})} for option in options)


def _quote_special(name: str) -> str:
    """Quote a name with characters that mean something to Hydra, unless it is quoted already."""
    if name[:1] in ("'", '"', "[") or not (SPECIAL.search(name) or name == ","):
        return name
    return "'{}'".format(name.replace("'", r"\'"))


def _quote_letters(value: str) -> str:
    """Quote the words in a value, a list or a section that have letters beyond ASCII.

    Hydra's grammar does not know them.
    """
    if value.isascii():
        return value
    words = SECTION_WORD if value.startswith("{") else WORD
    return words.sub(lambda found: found[0] if found[0].isascii() else _quote(found[0]), value)


def _quote(word: str) -> str:
    if word[0] in "'\"":
        return word
    bare = word.strip()
    return word.replace(bare, f"'{bare}'")


def quote(text: str) -> str:
    """Quote a text so that Hydra and OmegaConf take quotes, braces and backslashes literally."""
    text = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)
    text = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + (r"\'" if found[2] else ""), text)
    return f"'{text}'"
