"""From files and named data sets to padded batches: read, check, split, encode, batch."""

from attnlstm.data.batches import BucketedBatchSampler, EncodedSplit, SequenceBatch, pad
from attnlstm.data.encoders.encoding import Encoder, encode_part, encoder_from_dict, fit_encoder
from attnlstm.data.encoders.series import SeriesEncoder
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.data.rows import Row, RowSource
from attnlstm.data.sources.registry import SOURCES, open_sources
from attnlstm.data.splits import LabelledParts, Part, split_sources

__all__ = [
    "SOURCES",
    "BucketedBatchSampler",
    "EncodedSplit",
    "Encoder",
    "LabelledParts",
    "Part",
    "Row",
    "RowSource",
    "SequenceBatch",
    "SeriesEncoder",
    "TextEncoder",
    "encode_part",
    "encoder_from_dict",
    "fit_encoder",
    "open_sources",
    "pad",
    "split_sources",
]
