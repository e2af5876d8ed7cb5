"""From checked rows to what Lightning trains: the encoded splits and a new model."""

import logging
import math
from pathlib import Path
from typing import NamedTuple

import lightning
import numpy as np
import torch
from torch import Tensor

from attnlstm.config.data import TextConfig
from attnlstm.config.schema import TrainConfig
from attnlstm.data import packaged_vectors
from attnlstm.data.batches import EncodedSplit
from attnlstm.data.encoders.encoding import Encoder, encode_part, fit_encoder
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.data.formats.vectors import load_vectors
from attnlstm.data.module import SequenceDataModule
from attnlstm.data.splits import LabelledParts
from attnlstm.errors import UserError
from attnlstm.files import file_fingerprint
from attnlstm.nn import NgramClassifier, RandomConvolutionClassifier
from attnlstm.training.module import ClassificationModule

logger = logging.getLogger(__name__)


MOST_FITTED = 4096
"""Rows that a ridge regression is fitted on, whose work grows with their cube."""

ROWS_FOR_FILTERS = 100

ROWS_AT_ONCE = 32


class Encoded(NamedTuple):
    """The rows as numbers, and the encoder, which is fitted on "train"."""

    encoder: Encoder
    splits: dict[str, EncodedSplit]


def encode(config: TrainConfig, rows: LabelledParts) -> Encoded:
    """Fit the encoder on "train" and encode all parts; with folds, "validation" is "train"."""
    encoder = fit_encoder(config.data, rows.parts["train"])
    splits = {}
    for name, part in rows.parts.items():
        splits[name], counts = encode_part(encoder, part, name)
        logger.info("%s", counts.describe(name, config.data))
    if rows.folds is not None:
        splits["validation"] = splits["train"]
    return Encoded(encoder, splits)


def build_data(config: TrainConfig, rows: LabelledParts, encoded: Encoded) -> SequenceDataModule:
    """The batches that the configuration, its batch size settled, asks for."""
    fingerprints = take_fingerprints(config, rows)
    return SequenceDataModule(encoded.splits, config.data, config.seed, fingerprints)


def build_module(
    config: TrainConfig,
    rows: LabelledParts,
    encoded: Encoded,
    trained_on: tuple[str, ...] = ("train",),
) -> ClassificationModule:
    """A new model, as the seed has it.

    Args:
        config: of the run, settled.
        rows: with the classes and the folds.
        encoded: the same rows.
        trained_on: which parts of the data "train" consists of.
    """
    num_classes = len(rows.label_names)
    class_counts = encoded.splits["train"].targets.bincount(minlength=num_classes).tolist()
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    module = ClassificationModule(
        config.model_dump(),
        rows.label_names,
        class_counts,
        encoded.encoder.to_dict(),
        list(trained_on),
        folds=torch.from_numpy(rows.folds) if config.validation == "folds" else None,
    )
    return module


def begin(
    config: TrainConfig, module: ClassificationModule, rows: LabelledParts, encoded: Encoded
) -> None:
    """Give a new model what it has before its first step: pretrained vectors, fitted experts."""
    split = encoded.splits["train"]
    if config.model.embedding.vectors is not None:
        use_vectors(config, module)
    if config.model.ngrams is not None:
        fit_ngrams(module, split)
    if config.model.random_convolutions is not None:
        fit_random_convolutions(module, split, rows.folds, config.seed)


def fit_ngrams(module: ClassificationModule, split: EncodedSplit) -> None:
    """Have the n-grams of all members weighted by the training texts."""
    fitted = None
    for member in module.members:
        assert isinstance(member.expert, NgramClassifier)
        if fitted is None:
            member.expert.fit_idf(split.steps(row) for row in range(len(split)))
            fitted = member.expert.idf
        member.expert.idf.copy_(fitted)


def fit_random_convolutions(
    module: ClassificationModule, split: EncodedSplit, folds: np.ndarray | None, seed: int
) -> None:
    """Fit the fixed convolutions' classifier of each member to all rows but those of its fold.

    The filters are the same in all members. Of many rows some are chosen at random.

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
    parts = np.array_split(chosen, math.ceil(len(chosen) / ROWS_AT_ONCE))
    batches = (split.collate(part.tolist()) for part in parts)
    features = torch.cat([first.features(batch.inputs, batch.lengths) for batch in batches])
    targets = split.targets[chosen]
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


def take_fingerprints(config: TrainConfig, rows: LabelledParts) -> dict[str, str]:
    """Digests of the rows of each part, and of the other files that a training begins with."""
    taken = {f"{name} rows": part.fingerprint() for name, part in rows.parts.items()}
    vectors, data = config.model.embedding.vectors, config.data
    if isinstance(data, TextConfig) and data.tokenizer.file is not None:
        taken["data.tokenizer.file"] = file_fingerprint(Path(data.tokenizer.file))
    if vectors is not None:
        if vectors == packaged_vectors.NAME:
            digest = packaged_vectors.fingerprint()
        else:
            digest = file_fingerprint(Path(vectors))
        taken["model.embedding.vectors"] = digest
    return taken


def use_vectors(config: TrainConfig, module: ClassificationModule) -> None:
    """Put the vectors of `model.embedding.vectors` into the embedding, and say how many there are.

    Raises:
        UserError: there are none, or they do not fit; see `read_vectors`.
    """
    options, encoder = config.model.embedding, module.encoder
    assert isinstance(encoder, TextEncoder)
    assert options.vectors is not None
    is_packaged = options.vectors == packaged_vectors.NAME
    if is_packaged:
        ids, vectors = packaged_vectors.load_packaged_vectors(encoder.vocabulary())
    else:
        ids, vectors = read_vectors(config, encoder)
    logger.info(
        "%s has vectors for %d of %d tokens (%.1f %%)%s",
        options.vectors,
        len(ids),
        encoder.vocab_size,
        100 * len(ids) / encoder.vocab_size,
        ", beside the trained ones" if is_packaged else "",
    )
    for member in module.members:
        assert member.embedding is not None
        if is_packaged:
            member.embedding.set_pretrained(ids, vectors)
        else:
            member.embedding.copy_vectors(ids, vectors, freeze=options.freeze)


def read_vectors(config: TrainConfig, encoder: TextEncoder) -> tuple[Tensor, Tensor]:
    """The tokens that a file of `model.embedding.vectors` has, and their vectors.

    Raises:
        UserError: the file cannot be read, has malformed lines, or vectors of another size.
    """
    options = config.model.embedding
    path = Path(str(options.vectors))
    drop = config.data.on_bad_row == "drop"
    found = load_vectors(path, encoder.vocabulary(), skip_malformed=drop)
    size = found.vectors.shape[1]
    if size != options.size:
        raise UserError(f"{path} has vectors of {size} numbers: set model.embedding.size={size}")
    if found.num_malformed:
        logger.warning("dropped %d malformed lines of %s", found.num_malformed, path)
    return torch.from_numpy(found.ids), torch.from_numpy(found.vectors)
