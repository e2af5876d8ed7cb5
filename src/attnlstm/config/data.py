"""The section `data`: what all sources share, and how the chosen source's own model is found.

The sources themselves are in `attnlstm.data.sources`, one file each, and register there.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Optional, Union, get_args

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema

from attnlstm.config.section import (
    Amount,
    Count,
    Files,
    Fraction,
    Name,
    Natural,
    Number,
    Section,
    ShareAboveZero,
)

OnBadRow = Literal["stop", "drop"]
Truncation = Literal["head", "tail"]


class TokenizerConfig(Section):
    """How texts become tokens."""

    kind: Literal["word", "bpe", "unigram", "character"] = "word"
    """what a text is cut into"""
    vocab_size: Annotated[int, Field(ge=2), Number] = 30000
    """the most frequent tokens that are kept"""
    min_frequency: Count = 1
    """tokens that are rarer in the training texts are unknown"""
    lowercase: bool = True
    """whether capitals count as small letters"""
    file: Name | None = None
    """a tokenizer.json instead of one that is trained here"""


class DataConfig(Section):
    """What all sources have: a name for the run, and how rows are split and become batches."""

    name: str = ""
    """the set, and the folder of its runs"""
    val_fraction: Fraction = 0.2
    """share of the training rows for validation, where they have no file of their own"""
    test_fraction: Fraction = 0.2
    """share of the training rows for the test, where it has no file of its own"""
    on_bad_row: OnBadRow = "stop"
    """what to do about rows that cannot be used"""
    crop: ShareAboveZero | None = None
    """training reads random pieces of at least this share of a row; null: whole rows"""
    batch_size: Count | None = 16
    """rows in training, four times as many in evaluation; null: from the number of rows"""
    batch_tokens: Count | None = None
    """steps of a batch, padding included, instead of batch_size"""
    sampler: Literal["shuffled", "balanced"] = "shuffled"
    """how an epoch's rows are drawn: each once, or every class equally often"""
    num_workers: Natural = 0
    """processes that load batches; 0: none besides the training itself"""


class TextConfig(DataConfig):
    """What sources of texts have in common."""

    tokenizer: TokenizerConfig = TokenizerConfig()
    """how texts become tokens"""
    max_length: Count | None = None
    """tokens that are kept of a text; null: all"""
    truncation: Truncation = "head"
    """the end of a text that is kept"""


class SeriesConfig(DataConfig):
    """What sources of time series have in common."""

    normalize: bool = True
    """normalise each channel by the mean and deviation of the training rows"""
    noise: Amount = 0.0
    """standard deviation of the Gaussian noise that is added in training"""


class FileParts(Section):
    """Files of rows."""

    train: Files = None
    """training rows: a file, a glob or a list of them"""
    validation: Files = None
    """validation rows; null: a part of train"""
    test: Files = None
    """test rows; null: a part of train"""


class LabelColumn(Section):
    """The column that tables of texts and of series both have."""

    label_column: Name | None = None
    """column of the labels; null: the one with a usual name"""


class TextColumns(LabelColumn):
    """The columns of tables of texts."""

    text_column: Name | None = None
    """column of the texts; null: the one with a usual name"""


class SeriesColumns(LabelColumn):
    """The columns of long tables of series."""

    id_column: Name | None = None
    """column that says which series a line belongs to; null: the one with a usual name"""
    time_column: Name | None = None
    """column that says the order of the steps; null: as they come"""
    channel_columns: list[str] | None = None
    """columns of the values; null: all others"""


class Delimiter(Section):
    """How lines of CSV files are parted."""

    delimiter: str | None = None
    """what parts the columns of CSV and TSV files; null: found out"""


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
