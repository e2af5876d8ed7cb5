"""The classifier of a configuration and an encoder."""

from collections.abc import Mapping
from typing import Any

from attnlstm.data import packaged_vectors
from attnlstm.data.encoders.encoding import Encoder
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.errors import UserError
from attnlstm.nn.build import SeriesInputs, TokenInputs, build_classifier
from attnlstm.nn.ensemble import Classifier


def build_configured(
    model: Mapping[str, Any], encoder: Encoder | None, num_classes: int
) -> Classifier:
    """The classifier, or the ensemble, for what an encoder gives.

    Args:
        model: the `model` section of the configuration as plain containers.
        encoder: of texts or of series; None: of series with one channel.
        num_classes: number of classes.

    Raises:
        UserError: some part of it does not exist with these options.
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
        inputs = SeriesInputs(1 if encoder is None else encoder.num_channels)
    try:
        return build_classifier(model, inputs, num_classes)
    except ValueError as error:
        raise UserError(str(error)) from error
