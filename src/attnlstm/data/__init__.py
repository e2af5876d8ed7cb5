"""From a named data set to padded batches: load, check, carve, encode, batch."""

from datasets import DatasetDict

from attnlstm.data.archive import load_archive
from attnlstm.data.batches import BucketedBatchSampler, EncodedSplit, SequenceBatch
from attnlstm.data.checks import check_series
from attnlstm.data.module import SequenceDataModule
from attnlstm.data.series import SeriesEncoder
from attnlstm.data.splits import carve_validation
from attnlstm.errors import UserError

SOURCES = {"archive": load_archive}


def load_splits(source: str, name: str, val_fraction: float, seed: int) -> DatasetDict:
    """The checked splits "train", "validation" (carved out of the training rows) and "test".

    Raises:
        UserError: the source or the set is unknown, cannot be read, or fails a check.
    """
    if source not in SOURCES:
        raise UserError(f"data.source={source} is unknown: use {' or '.join(SOURCES)}")
    dataset = SOURCES[source](name)
    check_series(dataset)
    return DatasetDict(
        {**carve_validation(dataset["train"], val_fraction, seed), "test": dataset["test"]}
    )


__all__ = [
    "SOURCES",
    "BucketedBatchSampler",
    "EncodedSplit",
    "SequenceBatch",
    "SequenceDataModule",
    "SeriesEncoder",
    "carve_validation",
    "check_series",
    "load_archive",
    "load_splits",
]
