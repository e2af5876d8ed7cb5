"""The columns of predictions: of the input, of the answer, and what went wrong."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from attnlstm.checkpoint.calibration import PROBABILITY_DECIMALS
from attnlstm.checkpoint.load import TrainedModel
from attnlstm.config.schema import PredictConfig
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.data.encoders.tokenizer import replace_surrogates
from attnlstm.data.rows import Row, RowSource
from attnlstm.inference.predictor import Prediction
from attnlstm.inference.writers import Columns, name_probability

TEXT = "text"
"""The name of the text where it has no column."""

RESERVED = (
    *("row", "file", "id", "step", "true_label", "label", "prediction_set", "tokens"),
    "attention",
)
"""Names of columns with another meaning in predictions."""


@dataclass(frozen=True)
class KeptColumns:
    """The columns that predictions take over from their input, as text.

    has_id: whether the ids of series are among them.
    text: the name of the column of the text; None: it is not kept.
    others: the names of the columns that rows carry in `Row.kept`.
    """

    has_id: bool
    text: str | None
    others: tuple[str, ...]

    def names(self) -> list[str]:
        """Return the names of the columns in order; of those in use, with "of input" at the end."""
        names = ["id"] * self.has_id
        for column in filter(None, [self.text, *self.others]):
            is_taken = column in (*RESERVED, "error") or column.startswith(name_probability(""))
            names.append(f"{column} of input" if is_taken else column)
        return names

    def values(self, row: Row) -> dict[str, str | None]:
        """Return the values of a row by the names of the columns."""
        values = [row.name] * self.has_id
        if self.text is not None:
            values.append(row.value if isinstance(row.value, str) else None)
        kept = row.kept or (None,) * len(self.others)  # none of a record that cannot be read
        return dict(zip(self.names(), [*values, *kept], strict=True))


def keep_columns(
    keep: str | list[str] | None, source: RowSource | None, is_text: bool
) -> KeptColumns:
    """Have the rows of a source carry the columns that the key `keep` asks for.

    Without a source, as for a single text, there are no columns to choose from.

    Raises:
        UserError: there is no such column.
    """
    if keep == "none":
        return KeptColumns(has_id=False, text=None, others=())
    used = {} if source is None else source.columns_used
    text = used.get("text", TEXT) if is_text else None
    if keep is None or source is None:
        return KeptColumns(has_id=not is_text, text=text, others=())
    wanted = None if keep == "all" else [keep] if isinstance(keep, str) else keep
    others = tuple(source.keep_columns(wanted))
    if wanted is not None or text in others:
        text = None
    return KeptColumns(has_id=not is_text, text=text, others=others)


def list_columns(config: PredictConfig, trained: TrainedModel, kept: KeptColumns) -> Columns:
    """Return the names and types of the columns of predictions."""
    columns: dict[str, pa.DataType] = {"row": pa.int64(), "file": pa.string()}
    columns |= dict.fromkeys(kept.names(), pa.string())
    if config.data.window or getattr(trained.config.data, "window", None):
        columns["step"] = pa.int64()  # the first one of a window
    columns |= {"true_label": pa.string(), "label": pa.string()}
    columns |= {name_probability(label): pa.float64() for label in trained.label_names}
    if config.prediction_sets is not None:
        columns["prediction_set"] = pa.list_(pa.string())
    if config.attention:
        if isinstance(trained.encoder, TextEncoder):
            columns["tokens"] = pa.list_(pa.string())
        columns["attention"] = pa.list_(pa.float32())
    return columns | {"error": pa.string()}


def to_columns(
    config: PredictConfig,
    trained: TrainedModel,
    kept: KeptColumns,
    number: int,
    prediction: Prediction,
) -> dict[str, Any]:
    """Return a prediction's values by their columns, of which some may be missing."""
    row = prediction.row
    values: dict[str, Any] = kept.values(row)
    values |= {
        "row": number,
        "file": replace_surrogates(row.file),
        "step": row.step,
        "true_label": row.label,
        "label": prediction.label,
        "prediction_set": prediction.prediction_set,
        "error": prediction.error,
    }
    if prediction.probabilities is not None:
        names = map(name_probability, trained.label_names)
        values |= zip(names, prediction.probabilities.tolist(), strict=True)
    if config.attention and prediction.attention is not None:
        weights = prediction.attention.astype(np.float64)
        values["attention"] = weights.round(PROBABILITY_DECIMALS).tolist()
        if isinstance(trained.encoder, TextEncoder):
            values["tokens"] = trained.encoder.tokens(str(row.value))
    return values
