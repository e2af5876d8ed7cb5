"""The classifier that a configuration and an encoder describe."""

from collections.abc import Mapping
from typing import Any

from attnlstm.config.data import Task, TextConfig
from attnlstm.config.schema import TrainConfig
from attnlstm.data import packaged_vectors
from attnlstm.data.encoders.encoding import Encoder
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.errors import UserError
from attnlstm.nn.build import SeriesInputs, TokenInputs, build_classifier
from attnlstm.nn.ensemble import Classifier


def build_configured(
    model: Mapping[str, Any],
    encoder: Encoder | None,
    num_classes: int,
    task: Task = "classification",
) -> Classifier:
    """Build the classifier, or the ensemble, for an encoder's output.

    Args:
        model: the `model` section of the configuration as plain containers.
        encoder: of texts or of series; None stands for series with one channel.
        num_classes: number of classes, or of the numbers to predict.
        task: what is to be predicted.

    Raises:
        UserError: some part of the model does not exist with these options.
    """
    inputs: SeriesInputs | TokenInputs
    if isinstance(encoder, TextEncoder):
        is_packaged = model["embedding"]["vectors"] == packaged_vectors.NAME
        inputs = TokenInputs(
            encoder.vocab_size,
            encoder.unknown_id,
            pretrained_size=packaged_vectors.SIZE if is_packaged else 0,
            reads_end=encoder.truncation == "tail",
        )
    else:
        inputs = SeriesInputs(1 if encoder is None else encoder.num_features)
    try:
        return build_classifier(model, inputs, num_classes, task)
    except ValueError as error:
        raise UserError(str(error)) from error


def describe_reading(config: TrainConfig, num_longer: int) -> str:
    """Describe which part of the rows longer than `model.max_steps` the LSTM reads.

    Args:
        config: the configuration of the run, with `model.max_steps`.
        num_longer: the number of longer rows.
    """
    units, rows, expert, end = "steps", "series", "fixed convolutions", "first"
    if isinstance(config.data, TextConfig):
        units, rows, expert = "tokens", "text" + "s" * (num_longer > 1), "n-grams"
        end = "last" if config.data.truncation == "tail" else "first"
    part = f"the {end} {config.model.max_steps:,} {units}"
    is_alone = config.model.ngrams is None and config.model.random_convolutions is None
    ending = "" if is_alone else f"; the {expert} read all"
    return f"the LSTM reads {part} of {num_longer:,} longer {rows}{ending}"
