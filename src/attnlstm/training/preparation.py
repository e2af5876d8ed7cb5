"""From checked rows to what Lightning trains: encoded splits, a data module and a new model."""

import logging
import math
from pathlib import Path
from typing import NamedTuple, cast

import lightning
import numpy as np
import torch

from attnlstm.config.data import TextConfig
from attnlstm.config.schema import TrainConfig
from attnlstm.console import counted
from attnlstm.data import packaged_vectors
from attnlstm.data.batches import EncodedSplit
from attnlstm.data.encoders.encoding import Encoder, encode_part, fit_encoder
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.data.formats.vectors import load_vectors
from attnlstm.data.module import SequenceDataModule
from attnlstm.data.parts import LabelledParts
from attnlstm.errors import UserError
from attnlstm.files import file_fingerprint
from attnlstm.nn import NgramClassifier, RandomConvolutionClassifier
from attnlstm.training.module import ClassificationModule

logger = logging.getLogger(__name__)

MOST_FITTED = 4096
"""Most rows that a ridge regression is fitted on: its work grows with their cube."""

ROWS_FOR_FILTERS = 100

FEATURE_BATCH = 32
"""Rows whose features are computed together."""


class EncodedDataset(NamedTuple):
    """A data set, its encoder, which is fitted on "train", and its encoded splits."""

    dataset: LabelledParts
    encoder: Encoder
    splits: dict[str, EncodedSplit]


def encode(config: TrainConfig, dataset: LabelledParts) -> EncodedDataset:
    """Fit the encoder on "train" and encode all parts; with folds, "validation" is "train"."""
    encoder = fit_encoder(config.data, dataset.parts["train"])
    splits = {}
    for name, part in dataset.parts.items():
        splits[name], counts = encode_part(encoder, part, name)
        logger.info("%s", counts.describe(name, config.data))
    if dataset.folds is not None:
        splits["validation"] = splits["train"]
    return EncodedDataset(dataset, encoder, splits)


def build_datamodule(config: TrainConfig, encoded: EncodedDataset) -> SequenceDataModule:
    """Build the data module of a configuration whose batch size is settled."""
    fingerprints = compute_fingerprints(config, encoded.dataset)
    return SequenceDataModule(encoded.splits, config.data, config.seed, fingerprints)


def build_module(
    config: TrainConfig, encoded: EncodedDataset, trained_on: tuple[str, ...] = ("train",)
) -> ClassificationModule:
    """Build a new model with the weights that the seed determines.

    `trained_on` are the parts of the data that "train" consists of.
    """
    label_names, folds = encoded.dataset.label_names, encoded.dataset.folds
    class_counts = count_classes(encoded.splits["train"].targets, len(label_names))
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    return ClassificationModule(
        config.model_dump(),
        label_names,
        class_counts,
        encoded.encoder.to_dict(),
        list(trained_on),
        folds=None if folds is None else torch.from_numpy(folds),
    )


def count_classes(targets: torch.Tensor, num_classes: int) -> list[int]:
    """Return the number of rows of each class, or with each number of a regression."""
    if targets.is_floating_point():
        return [len(targets)] * num_classes
    if targets.dim() == 2:
        return targets.long().sum(dim=0).tolist()
    return targets.bincount(minlength=num_classes).tolist()


def initialize(config: TrainConfig, module: ClassificationModule, encoded: EncodedDataset) -> None:
    """Give a new model what is fitted and not trained, before its first step."""
    split = encoded.splits["train"]
    for member in module.members:
        if member.target_scale is not None:
            member.target_scale.fit(split.targets)
    if config.model.embedding.vectors is not None:
        load_pretrained_vectors(config, module)
    if config.model.ngrams is not None:
        fit_ngrams(module, split)
    if config.model.random_convolutions is not None:
        fit_random_convolutions(module, split, encoded.dataset.folds, config.seed)


def fit_ngrams(module: ClassificationModule, split: EncodedSplit) -> None:
    """Fit the weights of the n-grams to the training texts, the same in all members."""
    experts = [cast("NgramClassifier", member.expert) for member in module.members]
    experts[0].fit_idf(split.steps(row) for row in range(len(split)))
    for expert in experts[1:]:
        expert.idf.copy_(experts[0].idf)


def fit_random_convolutions(
    module: ClassificationModule, split: EncodedSplit, folds: np.ndarray | None, seed: int
) -> None:
    """Fit the fixed convolutions' classifier of each member to all rows except those of its fold.

    The filters are the same in all members. Of many rows, some are chosen at random.

    Raises:
        UserError: a member has fewer than two rows.
    """
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.permutation(len(split))[:MOST_FITTED])
    if len(chosen) < len(split):
        logger.info("fixed convolutions: fitted on %d of %d rows", len(chosen), len(split))
    first = module.members[0].expert
    assert isinstance(first, RandomConvolutionClassifier)
    some = generator.permutation(chosen)[:ROWS_FOR_FILTERS]
    first.fit_filters((split.steps(row) for row in some), seed)
    parts = np.array_split(chosen, math.ceil(len(chosen) / FEATURE_BATCH))
    batches = (split.collate(part.tolist()) for part in parts)
    features = torch.cat([first.features(batch.inputs, batch.lengths) for batch in batches])
    targets = split.targets[chosen]
    scale = module.members[0].target_scale
    if scale is not None:
        targets = scale.standardize(targets)
    state = first.state_dict()
    for fold, member in enumerate(module.members):
        assert isinstance(member.expert, RandomConvolutionClassifier)
        member.expert.load_state_dict(state)
        is_seen = np.ones(len(chosen), bool) if folds is None else folds[chosen] != fold
        if is_seen.sum() < 2:
            raise UserError(
                f"model.random_convolutions are fitted on at least 2 rows, and of {len(chosen)} "
                f"training rows a model has {is_seen.sum()}: add rows, or set "
                "model.random_convolutions=null"
            )
        seen = torch.from_numpy(is_seen)
        member.expert.fit_classifier(features[seen], targets[seen])


def compute_fingerprints(config: TrainConfig, dataset: LabelledParts) -> dict[str, str]:
    """Return digests of the rows of each part, and of the other files that a training reads."""
    digests = {f"{name} rows": part.fingerprint() for name, part in dataset.parts.items()}
    vectors, data = config.model.embedding.vectors, config.data
    if isinstance(data, TextConfig) and data.tokenizer.file is not None:
        digests["data.tokenizer.file"] = file_fingerprint(Path(data.tokenizer.file))
    if vectors == packaged_vectors.NAME:
        digests["model.embedding.vectors"] = packaged_vectors.fingerprint()
    elif vectors is not None:
        digests["model.embedding.vectors"] = file_fingerprint(Path(vectors))
    return digests


def load_pretrained_vectors(config: TrainConfig, module: ClassificationModule) -> None:
    """Put the vectors of `model.embedding.vectors` into the embedding, and log how many there are.

    Raises:
        UserError: they cannot be read, have malformed lines, or are of another size.
    """
    options, encoder = config.model.embedding, module.encoder
    assert isinstance(encoder, TextEncoder)
    assert options.vectors is not None
    is_packaged = options.vectors == packaged_vectors.NAME
    if is_packaged:
        ids, vectors = packaged_vectors.load_packaged_vectors(encoder.vocabulary())
    else:
        path, drop = Path(options.vectors), config.data.on_bad_row != "stop"
        found = load_vectors(path, encoder.vocabulary(), skip_malformed=drop)
        size = found.vectors.shape[1]
        if size != options.size:
            raise UserError(
                f"{path} has vectors of {size} numbers: set model.embedding.size={size}"
            )
        if found.num_malformed:
            logger.warning("dropped %s of %s", counted(found.num_malformed, "malformed line"), path)
        ids, vectors = torch.from_numpy(found.ids), torch.from_numpy(found.vectors)
    logger.info(
        "%s has vectors for %d of %d tokens (%.1f %%)%s",
        options.vectors,
        len(ids),
        encoder.vocab_size,
        100 * len(ids) / encoder.vocab_size,
        ", in addition to the trained ones" if is_packaged else "",
    )
    for member in module.members:
        assert member.embedding is not None
        if is_packaged:
            member.embedding.set_pretrained(ids, vectors)
        else:
            member.embedding.copy_vectors(ids, vectors, freeze=options.freeze)
