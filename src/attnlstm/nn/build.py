"""From the `model` section of the configuration, as plain containers, to the classifier.

The classifier also depends on the sizes of its inputs: `SeriesInputs` or `TokenInputs`.
"""

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

from attnlstm.nn.classifier import SequenceClassifier
from attnlstm.nn.embedding import TokenEmbedding
from attnlstm.nn.ensemble import Classifier, ClassifierEnsemble
from attnlstm.nn.expert import Expert
from attnlstm.nn.head import Task
from attnlstm.nn.lstm import LSTM
from attnlstm.nn.ngrams import NgramClassifier
from attnlstm.nn.pooling import build_pooling
from attnlstm.nn.random_convolutions import RandomConvolutionClassifier
from attnlstm.nn.stem import STEMS, Stem, build_stem


class SeriesInputs(NamedTuple):
    """Series `[batch, time, num_channels]`."""

    num_channels: int


class TokenInputs(NamedTuple):
    """Token ids `[batch, time]`.

    vocab_size: number of tokens.
    unknown_id: the token that stands for unknown words; None: there is none.
    pretrained_size: size of the vectors that are added to the trained ones; 0: there are none.
    reads_end: whether `max_steps` keeps the last tokens of a text, instead of the first.
    """

    vocab_size: int
    unknown_id: int | None
    pretrained_size: int = 0
    reads_end: bool = False


def build_classifier(
    model: Mapping[str, Any],
    inputs: SeriesInputs | TokenInputs,
    num_classes: int,
    task: Task = "classification",
) -> Classifier:
    """Build the classifier, or the ensemble, that the `model` section describes.

    Args:
        model: the section as plain containers.
        inputs: what the classifier reads.
        num_classes: number of classes, or of the numbers to predict.
        task: what is to be predicted; see `attnlstm.nn.head`.

    Raises:
        ValueError: an LSTM, stem or expert cannot have these options. The message names the
            section, such as "model.lstm".
    """
    size = model["ensemble_size"]
    members = [build_member(model, inputs, num_classes, task) for _ in range(size)]
    return members[0] if size == 1 else ClassifierEnsemble(members)


def build_member(
    model: Mapping[str, Any], inputs: SeriesInputs | TokenInputs, num_classes: int, task: Task
) -> SequenceClassifier:
    """Build one classifier; see `build_classifier`."""
    embedding, stem = None, None
    expert: Expert | None = None
    if isinstance(inputs, TokenInputs):
        embedding = build_embedding(model["embedding"], inputs)
        input_size = embedding.feature_size
        if model["ngrams"] is not None:
            expert = NgramClassifier(inputs.vocab_size, num_classes, **model["ngrams"])
    else:
        input_size = inputs.num_channels
        fixed = model["random_convolutions"]
        if fixed is not None and None not in fixed.values():  # None until the data is read
            try:
                expert = RandomConvolutionClassifier(input_size, num_classes, task=task, **fixed)
            except ValueError as error:
                raise ValueError(f"model.random_convolutions: {error}") from error
        if model["stem"]["name"] != "none":
            stem = build_configured_stem(model["stem"], input_size)
            input_size = stem.feature_size
    try:
        lstm = LSTM(input_size, **model["lstm"], batch_first=True)
    except ValueError as error:
        raise ValueError(f"model.lstm: {error}") from error
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
        reads_end=isinstance(inputs, TokenInputs) and inputs.reads_end,
        task=task,
    )


def build_embedding(config: Mapping[str, Any], inputs: TokenInputs) -> TokenEmbedding:
    """Build the embedding that the `model.embedding` section describes."""
    options = dict(config)
    size = options.pop("size")
    del options["vectors"], options["freeze"]  # which change the weights, not the module
    return TokenEmbedding(
        inputs.vocab_size,
        size,
        unknown_id=inputs.unknown_id,
        pretrained_size=inputs.pretrained_size,
        **options,
    )


def build_configured_stem(config: Mapping[str, Any], input_size: int) -> Stem:
    """Build the stem that the `model.stem` section describes; without a stride it keeps all steps.

    Raises:
        ValueError: the stem has no such option, or the option does not fit.
    """
    options = {name: value for name, value in config.items() if value is not None}
    name = options.pop("name")
    known = inspect.signature(STEMS[name]).parameters
    for option in options:
        if option not in known:
            raise ValueError(
                f"model.stem.{option} means nothing to model/stem={name}: leave it out"
            )
    try:
        return build_stem(name, input_size, **options)
    except ValueError as error:
        raise ValueError(f"model.stem: {error}") from error
