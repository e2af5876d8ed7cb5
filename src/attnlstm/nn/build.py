"""The classifier that a configuration describes, without Lightning, which is slow to import."""

import inspect
from typing import Any

import torch
from torch import Tensor

from attnlstm.data import Encoder, TextEncoder
from attnlstm.data.packaged_vectors import VECTOR_PACKAGES
from attnlstm.errors import UserError
from attnlstm.nn import (
    LSTM,
    STEMS,
    ClassifierEnsemble,
    NgramClassifier,
    RandomConvolutionClassifier,
    SequenceClassifier,
    Stem,
    TokenEmbedding,
    build_pooling,
    build_stem,
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
    embedding, stem = None, None
    expert: NgramClassifier | RandomConvolutionClassifier | None = None
    if isinstance(encoder, TextEncoder):
        options = dict(model["embedding"])
        input_size = options.pop("size")
        package = VECTOR_PACKAGES.get(options.pop("vectors"))
        del options["freeze"]  # what becomes of the weights, not of the module
        embedding = TokenEmbedding(
            encoder.vocab_size,
            input_size,
            unknown_id=encoder.unknown_id,
            pretrained_size=0 if package is None else package.size,
            **options,
        )
        input_size = embedding.feature_size
        if model["ngrams"] is not None:
            expert = NgramClassifier(encoder.vocab_size, num_classes, **model["ngrams"])
    else:
        input_size = 1 if encoder is None else encoder.num_channels
        fixed = model["random_convolutions"]
        if fixed is not None and None not in fixed.values():  # otherwise the data is not read yet
            try:
                expert = RandomConvolutionClassifier(input_size, num_classes, **fixed)
            except ValueError as error:
                raise UserError(f"model.random_convolutions: {error}") from error
        if model["stem"]["name"] != "none":
            stem = build_configured_stem(model["stem"], input_size)
            input_size = stem.feature_size
    try:
        lstm = LSTM(input_size, **model["lstm"], batch_first=True)
    except ValueError as error:
        raise UserError(f"model.lstm: {error}") from error
    pooling = build_pooling(model["pooling"], lstm.feature_size, model["scaled_attention"])
    skip_pooling = None
    if model["skip_pooling"]:
        skip_pooling = build_pooling(model["skip_pooling"], lstm.input_size)
    return SequenceClassifier(
        lstm,
        pooling,
        num_classes,
        model["dropout"],
        embedding,
        stem,
        skip_pooling,
        expert,
        max_steps=model["max_steps"],
        reads_end=isinstance(encoder, TextEncoder) and encoder.truncation == "tail",
    )


def build_configured_stem(config: dict[str, Any], input_size: int) -> Stem:
    """The stem of the `model.stem` section; without a stride it leaves all steps.

    Raises:
        UserError: it has no such option, or the option does not fit.
    """
    options = {name: value for name, value in config.items() if value is not None}
    name = options.pop("name")
    known = inspect.signature(STEMS[name]).parameters
    for option in options:
        if option not in known:
            raise UserError(f"model.stem.{option} means nothing to model/stem={name}: leave it out")
    try:
        return build_stem(name, input_size, **options)
    except ValueError as error:
        raise UserError(f"model.stem: {error}") from error


def members_of(classifier: Classifier) -> list[SequenceClassifier]:
    """The classifiers of an ensemble; without one, the classifier alone."""
    if isinstance(classifier, ClassifierEnsemble):
        return [*classifier.members]
    return [classifier]
