"""The keys of `data`: a model for each source, and what sources have in common.

A key of another source is refused, as the model of the chosen one does not have it.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

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


class HubName(Section):
    """A data set of the Hugging Face Hub."""

    path: Name | None = None
    """name on the Hub, such as stanfordnlp/imdb, or a folder laid out like one"""
    subset: str | None = None
    """one of the data set, where it has some"""


class ArchiveConfig(SeriesConfig):
    """Sets of the UCR and UEA archives of time series."""

    source: Literal["archive"] = "archive"
    """where the rows come from"""
    name: str = "JapaneseVowels"
    """the set, and the folder of its runs"""


class SeriesFilesConfig(SeriesColumns, Delimiter, FileParts, SeriesConfig):
    """Files of series: .ts, .npz, and long tables."""

    source: Literal["series_files"] = "series_files"
    """where the rows come from"""


class BBCNewsConfig(TextConfig):
    """2,225 news articles of 5 topics, in a Python package."""

    source: Literal["bbc_news"] = "bbc_news"
    """where the rows come from"""


class TextFilesConfig(TextColumns, Delimiter, FileParts, TextConfig):
    """Tables of texts: CSV, TSV, JSON lines, Parquet, folders saved by datasets."""

    source: Literal["text_files"] = "text_files"
    """where the rows come from"""


class HubTextConfig(TextColumns, HubName, TextConfig):
    """Texts of the Hugging Face Hub."""

    source: Literal["hub_text"] = "hub_text"
    """where the rows come from"""


DATA_CONFIGS: dict[str, type[DataConfig]] = {
    "archive": ArchiveConfig,
    "bbc_news": BBCNewsConfig,
    "text_files": TextFilesConfig,
    "hub_text": HubTextConfig,
    "series_files": SeriesFilesConfig,
}
"""The model of each source."""


def drop_keys_of_other_sources(values: dict[str, Any]) -> None:
    """What the section `data` of checkpoints and config.yaml has held for any source, up to 0.1."""
    model = DATA_CONFIGS[values["source"]]
    for name in ("tokenizer", "truncation", "normalize"):
        if name not in model.model_fields:
            values.pop(name, None)


def _prepare(values: Any) -> Any:
    """Without a source it is the archive; another source's key that is empty is left out."""
    if not isinstance(values, dict):
        return values
    values = {"source": "archive"} | values
    model = DATA_CONFIGS.get(str(values["source"]))
    if model is None:
        return values
    known = {name for other in DATA_CONFIGS.values() for name in other.model_fields}
    needless = known - model.model_fields.keys()
    return {
        name: value
        for name, value in values.items()
        if name not in needless or value not in (None, 0, []) or value is False
    }


AnyDataConfig = Annotated[
    Annotated[
        ArchiveConfig | BBCNewsConfig | TextFilesConfig | HubTextConfig | SeriesFilesConfig,
        Field(discriminator="source"),
    ],
    BeforeValidator(_prepare),
]
