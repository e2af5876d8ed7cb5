"""`attnlstm VERB --help`: the keys in groups, each with the comment that conf/ has on it.

The text around them is a template in conf/hydra/help. In it, a line `$KEYS data model.lstm` stands
for the keys below these two, and `$CHOICES` for the groups of files to choose from. Without
`--help=all` only keys that the chosen files set are shown. Neither torch nor lightning is imported.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from attnlstm.config.checks import Setting, describe, show

WIDTH, KEY_WIDTH = 100, 36


def render_help(
    composed: DictConfig,
    settings: Mapping[str, Setting],
    folders: Sequence[Path],
    chosen: Sequence[str],
    shows_all: bool,
) -> str:
    """The help for a command line, with the values that it would run with.

    Args:
        composed: the config, with the node `hydra`.
        settings: every key of its schema.
        folders: those with configuration files.
        chosen: the files that it is composed of, in order, as in "data/archive".
        shows_all: also keys that these files do not set.
    """
    files = dict(_files(folders))
    comments: dict[str, str] = {}
    for name in filter(files.get, chosen):
        found = _comments(files[name], name)
        comments |= {key: found[key] or comments.get(key, "") for key in found}
    own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    values = dict(_leaves(OmegaConf.to_container(own)))
    if shows_all:
        sections = {key.rpartition(".")[0] for key in settings}
        keys = [*values, *(key for key in settings if key not in {*values, *sections})]
    else:
        keys = [key for key in values if key in comments]
    lines = {}
    for key in keys:
        shown = f"{key}={_written(values[key])}" if key in values else key
        lines[key] = _entry(shown, comments.get(key) or describe(settings[key].hint))
    text = composed.hydra.help.template.replace("$CHOICES", _choices(files))
    return re.sub(r"\$KEYS (.+)", lambda found: _below(lines, found[1].split()), text)


def _files(folders: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """Every configuration file but Hydra's own, by its name as in "data/archive"."""
    for folder in folders:
        for path in sorted(folder.rglob("*.yaml")):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if not name.startswith("hydra/"):
                yield name, path


def _choices(files: Iterable[str]) -> str:
    groups: dict[str, list[str]] = {}
    for name in files:
        group, _, choice = name.rpartition("/")
        if group:
            groups.setdefault(group, []).append(choice)
    return "\n".join(f"{group}: {', '.join(names)}" for group, names in sorted(groups.items()))


def _comments(path: Path, name: str) -> dict[str, str]:
    """Every key that a file sets, and the comment behind it, which may be empty."""
    text = path.read_text(encoding="utf-8")
    package = re.search(r"^# @package (\S+)", text)
    prefix = package[1] if package else name.rpartition("/")[0].replace("/", ".")
    root = yaml.compose(text, yaml.SafeLoader)
    return dict(_keys(root, text.splitlines(), "" if prefix == "_global_" else prefix))


def _keys(node: yaml.Node | None, lines: list[str], prefix: str) -> Iterator[tuple[str, str]]:
    if not isinstance(node, yaml.MappingNode):
        return
    for name, value in node.value:
        key = f"{prefix}.{name.value}" if prefix else name.value
        is_section = isinstance(value, yaml.MappingNode) and not value.flow_style
        end = name.end_mark if is_section else value.end_mark
        yield key, lines[end.line][end.column :].partition("# ")[2] if end.line < len(lines) else ""
        yield from _keys(value, lines, key)


def _leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


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
