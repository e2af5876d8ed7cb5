"""`attnlstm VERB --help`: the keys in groups, each with its value and its description.

The text around them is a template in conf/hydra/help, in which a line `$KEYS data model.lstm`
stands for the keys in these two sections, and `$CHOICES` for the groups of files to choose from.
Without `--help=all`, only keys that the chosen files set are shown.
"""

import re
import textwrap
from collections.abc import Mapping

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from attnlstm.cli.composition import without_hydra
from attnlstm.config.checks import Settings, describe, flatten, is_within, show

WIDTH, KEY_WIDTH = 100, 36


def render_help(composed: DictConfig, settings: Settings, shows_all: bool) -> str:
    """Return the help for the composed config of a command line, with its node `hydra`.

    With `shows_all`, keys that the chosen files do not set are shown with their defaults.
    """
    values = flatten(OmegaConf.to_container(without_hydra(composed)))
    keys = list(values)
    if shows_all:
        sections = {key.rpartition(".")[0] for key in [*settings, *values]}
        keys += [key for key in settings if key not in values.keys() | sections]
    entries = {key: _entry(key, values, settings) for key in keys}

    def list_entries(found: re.Match[str]) -> str:
        sections = found[1].split()
        return "\n".join(
            entry
            for section in sections
            for key, entry in entries.items()
            if is_within(key, section)
        )

    text = composed.hydra.help.template.replace("$CHOICES", _list_choices(composed))
    return re.sub(r"\$KEYS (.+)", list_entries, text)


def _entry(key: str, values: Mapping[str, object], settings: Settings) -> str:
    """Return a setting with its description next to it or, if it is too long for that, below."""
    node = settings.get(key, {})
    name = f"{key.rpartition('.')[0]}.name"
    description = node.get("description") or f"an argument of {values[name]}"
    if any("enum" in option for option in [node, *node.get("anyOf", ())]):
        choices = describe(node)
        description += f" ({choices})" * (len(choices) <= WIDTH)
    is_known = key in values or "default" in node
    setting = f"{key}={show(values.get(key, node.get('default')))}" if is_known else key
    indent = " " * (KEY_WIDTH + 2)
    start = f"  {setting:{KEY_WIDTH}}" if len(setting) < KEY_WIDTH else indent
    text = textwrap.fill(
        description, WIDTH, initial_indent=start, subsequent_indent=indent, break_long_words=False
    )
    return text if start != indent else f"  {setting}\n{text}"


def _list_choices(composed: DictConfig) -> str:
    """Return a line per group of configuration files, without Hydra's own groups."""
    loader, overrides = GlobalHydra.instance().config_loader(), composed.hydra.overrides.hydra
    groups = sorted(key for key in composed.hydra.runtime.choices if not key.startswith("hydra/"))
    return "\n".join(
        f"{group}: {', '.join(loader.get_group_options(group, overrides=list(overrides)))}"
        for group in groups
    )
