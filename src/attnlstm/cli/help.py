"""`attnlstm VERB --help`: the keys in groups, each with its value and what the schema says of it.

The text around them is a template in conf/hydra/help. In it, a line `$KEYS data model.lstm` stands
for the keys below these two, and `$CHOICES` for the groups of files to choose from. Without
`--help=all` only keys that the chosen files set are shown. Neither torch nor lightning is imported.
"""

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from attnlstm.cli.resume import flatten
from attnlstm.config.checks import Settings, describe, show

WIDTH, KEY_WIDTH = 100, 36


def render_help(
    composed: DictConfig, settings: Settings, folders: Sequence[Path], shows_all: bool
) -> str:
    """The help for a command line, with the values that it would run with.

    Args:
        composed: the config, with the node `hydra`.
        settings: every key of its schema.
        folders: those with configuration files.
        shows_all: also keys that the chosen files do not set, with the schema's defaults.
    """
    own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    values = flatten(OmegaConf.to_container(own))
    keys = list(values)
    if shows_all:
        sections = {key.rpartition(".")[0] for key in [*settings, *values]}
        keys += [key for key in settings if key not in {*values, *sections}]
    lines = {}
    for key in keys:
        node = settings.get(key, {})
        section = key.rpartition(".")[0]
        explanation = node.get("description") or f"an argument of {values[f'{section}.name']}"
        if any("enum" in option for option in [node, *node.get("anyOf", ())]):
            choices = describe(node)
            explanation += f" ({choices})" * (len(choices) <= WIDTH)
        is_known = key in values or "default" in node
        value = values.get(key, node.get("default"))
        lines[key] = _entry(f"{key}={_written(value)}" if is_known else key, explanation)
    text = composed.hydra.help.template.replace("$CHOICES", _choices(folders))
    return re.sub(r"\$KEYS (.+)", lambda found: _below(lines, found[1].split()), text)


def _choices(folders: Iterable[Path]) -> str:
    """Every group of configuration files but Hydra's own, and its files."""
    groups: dict[str, list[str]] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.yaml")):
            group = path.parent.relative_to(folder).as_posix()
            if group != "." and group.partition("/")[0] != "hydra":
                groups.setdefault(group, []).append(path.stem)
    return "\n".join(f"{group}: {', '.join(names)}" for group, names in sorted(groups.items()))


def _written(value: Any) -> str:
    """A value as it is written on the command line."""
    return f"[{','.join(map(show, value))}]" if isinstance(value, list) else show(value)


def _entry(setting: str, explanation: str) -> str:
    """A setting with its explanation beside it or, if it is too long for that, below it."""
    start = f"  {setting:{KEY_WIDTH}}"
    if len(setting) >= KEY_WIDTH:
        start = f"  {setting}\n{' ' * (KEY_WIDTH + 2)}"
    wrapped = textwrap.wrap(explanation, WIDTH - KEY_WIDTH - 2, break_long_words=False)
    return start + f"\n{' ' * (KEY_WIDTH + 2)}".join(wrapped)


def _below(lines: Mapping[str, str], sections: Iterable[str]) -> str:
    chosen = [
        line
        for section in sections
        for key, line in lines.items()
        if f"{key}.".startswith(f"{section}.")
    ]
    return "\n".join(chosen)
