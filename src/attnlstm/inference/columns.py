"""The columns of predictions: of the input, of the answer, and what went wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import pyarrow as pa

from attnlstm.checkpoint.calibration import PROBABILITY_DECIMALS
from attnlstm.checkpoint.load import TrainedModel
from attnlstm.config.schema import PredictConfig
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.data.encoders.tokenizer import replace_surrogates
from attnlstm.data.rows import Row, RowSource, to_numbers
from attnlstm.inference.predictor import Prediction
from attnlstm.inference.writers import Columns, name_probability

TEXT = "text"
"""The name of the text where it has no column."""

RESERVED = (
    *("row", "file", "id", "step", "true_label", "label", "prediction_set", "tokens"),
    *("attention", "true_value", "prediction", "lower", "upper"),
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
    columns |= list_answers(trained, with_sets=config.prediction_sets is not None)
    if config.attention:
        if isinstance(trained.encoder, TextEncoder):
            columns["tokens"] = pa.list_(pa.string())
        columns["attention"] = pa.list_(pa.float32())
    return columns | {"error": pa.string()}


def list_answers(trained: TrainedModel, with_sets: bool) -> Columns:
    """Return the names and types of the columns of true labels and of what a model answers."""
    if trained.task == "regression":
        kinds = ["true_value", "prediction", *(["lower", "upper"] if with_sets else [])]
        names = trained.label_names
        return {name_number(kind, name, names): pa.float64() for name in names for kind in kinds}
    label = pa.list_(pa.string()) if trained.task == "multilabel" else pa.string()
    columns: dict[str, pa.DataType] = {"true_label": label, "label": label}
    columns |= {name_probability(name): pa.float64() for name in trained.label_names}
    return columns | ({"prediction_set": pa.list_(pa.string())} if with_sets else {})


def name_number(kind: str, name: str, names: Sequence[str]) -> str:
    """Return the name of a column of a regression's target, such as "prediction"."""
    return kind if len(names) == 1 else f"{kind} of {name}"


def to_answers(trained: TrainedModel, prediction: Prediction) -> dict[str, Any]:
    """Return the values of `list_answers`; those that are missing are left out."""
    label = prediction.row.label
    if trained.task != "regression":
        values: dict[str, Any] = {
            "true_label": list(label) if isinstance(label, tuple) else label,
            "label": list(said) if isinstance(said := prediction.label, tuple) else said,
            "prediction_set": prediction.prediction_set,
        }
        if prediction.probabilities is not None:
            columns = map(name_probability, trained.label_names)
            values |= zip(columns, prediction.probabilities.tolist(), strict=True)
        return values
    values = {}
    names = trained.label_names
    true = None if label is None else to_numbers(label, len(names))
    for place, name in enumerate(names):
        given = {"true_value": None if true is None else true[place]}
        if prediction.numbers is not None:
            given["prediction"] = float(prediction.numbers[place])
        if prediction.intervals is not None:
            ends = prediction.intervals[place].tolist()
            given["lower"], given["upper"] = (end if isfinite(end) else None for end in ends)
        values |= {name_number(k, name, names): v for k, v in given.items()}
    return values


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
        "error": prediction.error,
    }
    values |= to_answers(trained, prediction)
    if config.attention and prediction.attention is not None:
        weights = prediction.attention.astype(np.float64)
        values["attention"] = weights.round(PROBABILITY_DECIMALS).tolist()
        if isinstance(trained.encoder, TextEncoder):
            values["tokens"] = trained.encoder.tokens(str(row.value))
    return values
