"""The section `data`: what all sources share, and how the chosen source's own model is found.

The sources themselves are in `attnlstm.data.sources`, one file each, and register there.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Optional, Union, get_args

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema

from attnlstm.config.section import (
    Amount,
    BatchSize,
    Count,
    Files,
    Fraction,
    Name,
    Number,
    NumWorkers,
    Section,
    ShareAboveZero,
)

DROP_ALL = "drop!"

OnBadRow = Annotated[
    Literal["stop", "drop", "drop!"] | ShareAboveZero, Field(json_schema_extra={"verbatim": True})
]
"""drop stops if it would remove most rows or a class; drop! and a share of the rows allow that."""

Task = Literal["classification", "multilabel", "ordinal", "regression"]
TaskChoice = Literal["auto", "classification", "multilabel", "ordinal", "regression"]

Truncation = Literal["head", "tail"]
Missing = Literal["stop", "interpolate", "mask"]

AxesNames = Literal["row,time,channel", "row,channel,time", "time,channel", "channel,time"]
Axes = Annotated[AxesNames, Field(json_schema_extra={"verbatim": True, "has_commas": True})]
"""The order of an array's axes; without `row`, a file holds one series."""

Decimal = Annotated[Literal[".", ","], Field(json_schema_extra={"verbatim": True})]
Layout = Literal["auto", "long", "wide"]


class TokenizerConfig(Section):
    """The tokenizer."""

    kind: Literal["word", "bpe", "unigram", "character"] = "word"
    """kind of tokens"""
    vocab_size: Annotated[int, Field(ge=2, le=10_000_000), Number] = 30000
    """maximum number of tokens, most frequent first"""
    min_frequency: Count = 1
    """tokens that occur less often in the training texts are unknown"""
    lowercase: bool = True
    """whether to lowercase texts"""
    file: Name | None = None
    """an existing tokenizer.json to use instead of training one"""


class DataConfig(Section):
    """The options of all sources: a name, the splits and the batches."""

    name: Name = ""
    """name of the data set, and of the folder of its runs"""
    val_fraction: Fraction = 0.2
    """share of the training rows used for validation, if there is no validation file"""
    test_fraction: Fraction = 0.2
    """share of the training rows used for the test, if there is no test file"""
    on_bad_row: OnBadRow = "stop"
    """rows that cannot be read: stop; drop, within reason; drop!; or drop up to a share like 0.8"""
    crop: ShareAboveZero | None = None
    """train on random crops of at least this share of a row; null: on whole rows"""
    batch_size: BatchSize | None = 16
    """rows per training batch, a quarter of an evaluation batch; null: chosen from the rows"""
    batch_tokens: Count | None = None
    """steps per batch, including padding, instead of batch_size"""
    sampler: Literal["shuffled", "balanced"] = "shuffled"
    """how rows are drawn: each once per epoch, or all classes equally often"""
    num_workers: NumWorkers = 0
    """processes that load batches; 0: the main process does"""


class TextConfig(DataConfig):
    """The options of all sources of texts."""

    tokenizer: TokenizerConfig = TokenizerConfig()
    """the tokenizer"""
    max_length: Count | None = None
    """maximum tokens of a text; null: no limit"""
    truncation: Truncation = "head"
    """which end of a long text to keep"""


class SeriesConfig(DataConfig):
    """The options of all sources of time series."""

    normalize: bool = True
    """whether to standardize each channel by the training rows"""
    noise: Amount = 0.0
    """standard deviation of Gaussian noise added in training"""
    missing: Missing = "stop"
    """missing values inside series: stop, interpolate, or mask: 0 and a channel that marks them"""


class FileParts(Section):
    """The files of the parts."""

    train: Files = None
    """training files: a path, a glob or a list of them"""
    validation: Files = None
    """validation files; null: split off train"""
    test: Files = None
    """test files; null: split off train"""


class LabelColumn(Section):
    """The columns that tables of texts and of series share."""

    label_column: Name | list[Name] | None = None
    """label column, or a list: a 0/1 column per class, or numbers; null: the one of usual name"""
    label_separator: Annotated[Name, Field(min_length=1)] | None = None
    """separator between the labels of a cell, such as '|'; null: a cell is one label"""
    group_column: Name | None = None
    """column such as the user or session, whose rows stay in one part of the data or one fold"""


class TextColumns(LabelColumn):
    """The columns of tables of texts."""

    text_column: Name | list[Name] | None = None
    """text column, or a list of columns to join; null: the one with a usual name"""


class SeriesColumns(LabelColumn):
    """The layout and the columns of tables of series."""

    layout: Layout | None = "auto"
    """what a line is: a step of a series (long) or a series (wide); auto: finds out, or asks"""
    id_column: Name | None = None
    """column that identifies the series of a line; null: the one with a usual name"""
    time_column: Name | Literal[False] | None = None
    """column of the time of a step; false: file order; null: the one with a usual name, if any"""
    time_format: Name | None = None
    """format of dates, such as '%d/%m/%Y %H:%M:%S'; null: numbers or ISO dates"""
    channel_columns: list[Name] | None = None
    """value columns, one per channel, or names of numbered ones (x for x_0, x_1); null: all"""


class Arrays(Section):
    """How arrays, and files that hold one series each, are read."""

    axes: Axes | None = None
    """order of the axes of arrays; without row, each file is a series; null: if it is certain"""
    labels: Files = None
    """label files (.npy) of the .npy files in train; null: in their folders, as y.npy"""
    label_from: Name | None = None
    """label of a file that is one series: folder, or name:PATTERN with one group"""


class LabelFiles(Section):
    """The label files of the parts that are not for training."""

    validation_labels: Files = None
    """label files of the .npy files in validation; null: in their folders"""
    test_labels: Files = None
    """label files of the .npy files in test; null: in their folders"""


class Windowing(Section):
    """How streams are cut into windows."""

    window: Count | None = None
    """steps of the windows that series are cut into; null: series stay whole"""
    stride: Count | None = None
    """steps from one window to the next; null: as many as a window has"""


class TableFormat(Section):
    """How the files of tables are written."""

    delimiter: Name | None = None
    """column delimiter of CSV and TSV files; null: found, or a comma or a tab"""
    encoding: Name | None = None
    """encoding of text files, such as cp1252; null: by byte order mark, or UTF-8"""
    decimal: Decimal | None = None
    """decimal separator of the numbers in CSV and TSV files; null: a point"""
    header: bool | None = None
    """whether the first line names the columns; null: unless it is plain that it does not"""
    backslash_escapes: bool | None = None
    """whether CSV and TSV files write quotes as \\"; null: found out"""
    sheet: Name | None = None
    """sheet of an Excel workbook; null: the only one"""

    def format_options(self) -> dict[str, Any]:
        """The options of `attnlstm.data.formats.opening.open_table`."""
        return self.model_dump(include=set(TableFormat.model_fields))


SOURCES: dict[str, type[DataConfig]] = {}
"""The model of each source by its name; filled by `attnlstm.config.schema.register_source`."""

DEFAULT_SOURCE = "archive"


def source_name(model: type[DataConfig]) -> str:
    """The name by which `data.source` chooses a model."""
    return get_args(model.model_fields["source"].annotation)[0]


def own_options(model: type[DataConfig]) -> list[str]:
    """The options that a source adds to those of all sources of its kind, its name excepted."""
    kind = TextConfig if issubclass(model, TextConfig) else SeriesConfig
    own = {*model.model_fields.keys() - kind.model_fields, *model.__annotations__} - {"source"}
    return [name for name in model.model_fields if name in own]


class AnySource:
    """Marks a `DataConfig` that is to be validated by the model of the source it names."""

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        models: Any = Union[tuple(SOURCES.values())]  # noqa: UP007
        tagged = Annotated[models, Field(discriminator="source"), BeforeValidator(_prepare)]
        return handler.generate_schema(tagged)


class WithSourceOptions:
    """Adds to a section the own options of every source, all of them optional."""

    def __get_pydantic_core_schema__(
        self, section: type[Section], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        fields: dict[str, Any] = {
            name: (Optional[field.annotation], Field(None, description=field.description))  # noqa: UP045
            for model in SOURCES.values()
            for name, field in model.model_fields.items()
            if name in own_options(model)
        }
        return handler.generate_schema(create_model(section.__name__, __base__=section, **fields))


def drop_keys_of_other_sources(values: dict[str, Any]) -> None:
    """Remove the keys that up to 0.1 a run's `data` section held whatever its source was."""
    model = SOURCES[values["source"]]
    for name in ("tokenizer", "truncation", "normalize"):
        if name not in model.model_fields:
            values.pop(name, None)


def _prepare(values: Any) -> Any:
    """Fill in the default source, and leave out keys of other sources that are empty."""
    if not isinstance(values, Mapping):
        return values
    values = {"source": DEFAULT_SOURCE} | dict(values)
    model = SOURCES.get(str(values["source"]))
    if model is None:
        return values
    needless = {name for other in SOURCES.values() for name in other.model_fields}
    needless -= model.model_fields.keys()
    return {
        name: value
        for name, value in values.items()
        if name not in needless or value not in (None, 0, []) or value is False
    }
