"""The classifier that a configuration describes, without Lightning, which is slow to import."""

from typing import Any

import torch
from torch import Tensor

from attnlstm.data import Encoder, TextEncoder
from attnlstm.errors import UserError
from attnlstm.nn import (
    LSTM,
    ClassifierEnsemble,
    SequenceClassifier,
    TokenEmbedding,
    build_pooling,
)

Classifier = SequenceClassifier | ClassifierEnsemble


def at_least_float32(logits: Tensor) -> Tensor:
    """Logits of half precision in float32, others as they are."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def build_classifier(
    model: dict[str, Any], encoder: Encoder | None, num_classes: int
) -> Classifier:
    """The classifier, or the ensemble, that the `model` part of the configuration describes.

    Args:
        model: the `model` section as plain containers.
        encoder: of texts or of series; None: of series with one channel.
        num_classes: number of classes.

    Raises:
        UserError: the LSTM does not exist with these options.
    """
    size = model["ensemble_size"]
    members = [build_member(model, encoder, num_classes) for _ in range(size)]
    return members[0] if size == 1 else ClassifierEnsemble(members)


def build_member(
    model: dict[str, Any], encoder: Encoder | None, num_classes: int
) -> SequenceClassifier:
    """One classifier; see `build_classifier`."""
    embedding = None
    if isinstance(encoder, TextEncoder):
        options = dict(model["embedding"])
        input_size = options.pop("size")
        del options["vectors"], options["freeze"]  # what becomes of the weights, not of the module
        embedding = TokenEmbedding(
            encoder.vocab_size, input_size, unknown_id=encoder.unknown_id, **options
        )
    else:
        input_size = 1 if encoder is None else encoder.num_channels
    try:
        lstm = LSTM(input_size, **model["lstm"], batch_first=True)
    except ValueError as error:
        raise UserError(f"model.lstm: {error}") from error
    options = {name: value for name, value in model["pooling"].items() if value is not None}
    pooling = build_pooling(feature_size=lstm.feature_size, **options)
    return SequenceClassifier(lstm, pooling, num_classes, model["dropout"], embedding)


def members_of(classifier: Classifier) -> list[SequenceClassifier]:
    """The classifiers of an ensemble; without one, the classifier alone."""
    if isinstance(classifier, ClassifierEnsemble):
        return [*classifier.members]
    return [classifier]
