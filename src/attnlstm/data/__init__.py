"""From files and named data sets to padded batches: read, check, split, encode, batch."""

from attnlstm.data.batches import BucketedBatchSampler, EncodedSplit, SequenceBatch, pad
from attnlstm.data.encoding import Encoder, encode_part, encoder_from_dict, fit_encoder
from attnlstm.data.rows import Row, RowSource
from attnlstm.data.series import SeriesEncoder
from attnlstm.data.sources import SOURCES, open_sources
from attnlstm.data.splits import LabelledParts, Part, split_sources
from attnlstm.data.text_encoder import TextEncoder

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
