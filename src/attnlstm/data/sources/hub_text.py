"""Texts of a data set on the Hugging Face Hub, or of a local folder laid out like one."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from attnlstm.config.data import TextColumns, TextConfig
from attnlstm.config.schema import register_source
from attnlstm.config.section import Name
from attnlstm.data.rows import Row, RowSource, name_columns
from attnlstm.data.sources.source import PARTS, Source
from attnlstm.errors import UserError
from attnlstm.files import fingerprint_of

if TYPE_CHECKING:
    from datasets import Dataset

    from attnlstm.data.formats.table import Table

HUB_NAME = re.compile(r"(?!buckets/)[\w.-]+(/[\w.-]+)?")
PROBE_SECONDS = 5.0


@register_source
class HubTextSource(Source, TextColumns, TextConfig):
    """Texts of the Hugging Face Hub."""

    source: Literal["hub_text"] = "hub_text"
    path: Name | None = None
    """name on the Hub, such as stanfordnlp/imdb, or a folder laid out like one"""
    subset: Name | None = None
    """name of a subset, if the data set has several"""

    def open(self, only: str | None = None) -> Mapping[str, RowSource]:
        if not self.path:
            raise UserError(
                "data.path must be given: the name of a data set of the Hub, or a folder"
            )
        splits = load_hub(self.path, self.subset)
        parts: dict[str, HubText] = {}
        unlabelled = []
        for part in filter(splits.__contains__, PARTS):
            opened = HubText(
                splits[part],
                f"{self.path}, {part} split",
                text_column=self.text_column,
                label_column=self.label_column,
                label_separator=self.label_separator,
                group_column=self.group_column if part == "train" else None,
                needs_labels=part == "train",
            )
            if part == "train" or opened.has_labels():
                parts[part] = opened
            else:
                unlabelled.append(part)
        if unlabelled and "train" in parts:
            parts["train"].notes = [
                f"the {' and '.join(unlabelled)} rows of {self.path} have no labels: left out"
            ]
        if only in parts and only != "train":
            return {only: parts[only]}
        if "train" not in parts:
            raise UserError(
                f"data.path={self.path} has no split called train, only {', '.join(splits)}: "
                "choose a data set with training rows"
            )
        return parts


def load_hub(path: str, subset: str | None = None) -> "dict[str, Dataset]":
    """Load the splits of a data set by its name on the Hub, such as "user/name", or by its folder.

    A data set is downloaded once into the cache of `datasets`, and read from there without a
    network. No code that comes with it is executed.

    Raises:
        UserError: the data set or the subset does not exist or cannot be accessed.
    """
    import datasets
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES as BUILDERS

    is_folder = os.path.isdir(path)  # Path("") would be a folder
    if not is_folder and (path in BUILDERS or not HUB_NAME.fullmatch(path)):
        # datasets would read the name of a builder, such as "csv", as all files of this folder.
        raise UserError(
            f"data.path={path} is neither a folder nor a name such as 'user/name': for files of "
            "your own say data=text_files data.train=FILE"
        )
    is_offline = datasets.config.HF_HUB_OFFLINE
    try:
        # Without a network, datasets would retry for 24 s before it looks into its cache.
        datasets.config.HF_HUB_OFFLINE = is_offline or not (is_folder or _reaches_hub(path))
        return dict(datasets.load_dataset(path, name=subset))
    except Exception as error:  # the reader of each format raises its own kinds
        raise _cannot_load(path, subset, error) from error
    finally:
        datasets.config.HF_HUB_OFFLINE = is_offline


def _reaches_hub(path: str) -> bool:
    """Return whether the Hub answers, even if it has no such data set."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        HfApi().dataset_info(path, timeout=PROBE_SECONDS)
    except (HfHubHTTPError, HFValidationError):
        return True
    except Exception:  # the HTTP library depends on the version of huggingface_hub
        return False
    return True


def _cannot_load(path: str, subset: str | None, error: Exception) -> UserError:
    from datasets.exceptions import DatasetGenerationError

    if isinstance(error, DatasetGenerationError) and error.__cause__ is not None:
        error = error.__cause__  # which names the file and what is wrong with it
    reason = " ".join(str(error).split("Example of usage")[0].split()).rstrip(".:")
    if isinstance(error, ConnectionError):
        reason = "it is not in the cache, and the Hub cannot be reached"
        fix = "connect to the network, or give the path of a local folder"
    elif "gated" in reason:
        fix = "ask for access on its page, then log in with `hf auth login`"
    elif "BuilderConfig" in reason or "Config name" in reason:
        fix = "choose one of these as data.subset"
    elif "save_to_disk" in reason:
        fix = f"say data=text_files data.train={path}"
    else:
        fix = "fix the name or the files, or choose another data set"
    named = f"data.path={path}" + (f" with data.subset={subset}" if subset else "")
    return UserError(f"{named} cannot be loaded ({reason}): {fix}")


def open_dataset(dataset: "Dataset", name: str, label_separator: str | None) -> "Table":
    """Return a data set as a table, called `name`."""
    from datasets import ClassLabel

    from attnlstm.data.formats.arrow_tables import read_batches
    from attnlstm.data.formats.table import Record, Table

    class DatasetTable(Table):
        def column_names(self) -> list[str]:
            return list(dataset.column_names)

        def label_names(self, column: str) -> list[str] | None:
            feature = dataset.features[column]
            feature = getattr(feature, "feature", feature)  # of the items of a list
            return list(feature.names) if isinstance(feature, ClassLabel) else None

        def _records(self, columns: Sequence[str]) -> Iterator[Record]:
            batches = dataset.select_columns(list(columns)).with_format("arrow")
            names = {column: self.label_names(column) for column in columns}
            yield from read_batches(batches.iter(batch_size=1000), names)

    return DatasetTable(Path(name), label_separator=label_separator)


class HubText(RowSource):
    """The rows of one split.

    Args:
        dataset: the split.
        name: its name in messages, such as "imdb, train split".
        text_column, label_column, needs_labels, group_column: see `TextFiles`.

    Raises:
        UserError: a column is missing or cannot be guessed.
    """

    def __init__(
        self,
        dataset: "Dataset",
        name: str,
        *,
        text_column: str | Sequence[str] | None = None,
        label_column: str | Sequence[str] | None = None,
        needs_labels: bool = True,
        group_column: str | None = None,
        label_separator: str | None = None,
    ) -> None:
        from attnlstm.data.formats.columns import find_text_columns
        from attnlstm.data.formats.label_columns import JoinedLabels, join_labels

        self.name = name
        self._table, label = join_labels(
            open_dataset(dataset, name, label_separator), label_column, name, needs_labels
        )
        self.text_columns, self.label_column = find_text_columns(
            self._table.column_names(),
            name,
            self._table.describe_columns,
            text_column,
            label,
            needs_labels,
            group_column,
        )
        self.group_column = group_column
        self.columns_used = name_columns(
            text=" + ".join(self.text_columns), label=self.label_column, group=group_column
        )
        if isinstance(self._table, JoinedLabels):
            self.target_names = self._table.columns
        elif self.label_column is not None:
            self.label_names = self._table.label_names(self.label_column)

    def __iter__(self) -> Iterator[Row]:
        from attnlstm.data.formats.texts import to_row

        columns = [*self.text_columns, *filter(None, [self.label_column, self.group_column])]
        for record in self._table.records(list(dict.fromkeys(columns))):
            yield to_row(
                *(self.name, record, self.text_columns, self.label_column),
                read_label=self._table.read_label,
                group_column=self.group_column,
            )

    def has_labels(self) -> bool:
        """Return whether any row has a label; the Hub's sets write -1 where there is none."""
        return any(row.label not in (None, "-1") for row in self)

    def fingerprint(self) -> str:
        rows = ((row.value, row.label, row.problem) for row in self)
        return fingerprint_of(chain([self.name], rows))
