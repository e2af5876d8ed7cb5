"""Rows to numbers, once: kept in the cache of `datasets`, and read from there without loading them.

An encoder's folder in the cache holds `encoder.json`, and for each part of the data that it has
encoded an Arrow file of the rows and a JSON file of what was counted on the way. All of them are
written beside their place and then moved there, so that none is ever half there.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tokenizers
from filelock import FileLock

from attnlstm.config.data import DataConfig, SeriesConfig, TextConfig
from attnlstm.data.batches import EncodedSplit
from attnlstm.data.checks import show_progress
from attnlstm.data.encoders.series import SeriesEncoder
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.data.rows import Row
from attnlstm.data.splits import Part
from attnlstm.errors import UserError
from attnlstm.files import fingerprint_of, replacing

Encoder = TextEncoder | SeriesEncoder

ROWS_AT_ONCE = 1000
SIZE_AT_ONCE = 2**24
"""Rows, and characters of texts or numbers of series, that are in memory at a time."""

LAYOUT = f"3, tokenizers {tokenizers.__version__}"
"""Changes with what the same settings and rows are encoded to."""


@dataclass
class Counts:
    """What was seen while a part was encoded; the last three of texts only.

    steps: tokens or time steps that are kept. truncated: rows that lost steps. cut: the steps that
    they lost. unknown: kept tokens that the tokenizer does not know.
    """

    rows: int = 0
    steps: int = 0
    truncated: int = 0
    cut: int = 0
    unknown: int = 0

    def describe(self, name: str, config: DataConfig) -> str:
        """One line for the log."""
        if not isinstance(config, TextConfig):
            return f"{name}: {self.steps:,} time steps"
        line = f"{name}: {self.steps:,} tokens, {self.unknown / self.steps:.2%} of them unknown"
        if not self.truncated:
            return line
        return (
            f"{line}; {self.truncated:,} of {self.rows:,} texts cut to their {config.truncation} "
            f"of {config.max_length} tokens, {self.cut / (self.steps + self.cut):.1%} of all tokens"
        )


def encoder_from_dict(state: dict[str, Any]) -> Encoder:
    """The encoder whose `to_dict` gave `state`.

    Raises:
        ValueError: there is no such kind of encoder, or the state is none of it.
    """
    match state["kind"]:
        case "text":
            return TextEncoder.from_dict(state)
        case "series":
            return SeriesEncoder.from_dict(state)
    raise ValueError(f"unknown encoder {state['kind']!r}")


def fit_encoder(config: DataConfig, train: Part) -> tuple[Encoder, Path]:
    """The encoder of these training rows, fitted or from the cache, and its folder there.

    Raises:
        UserError: the tokenizer's file cannot be read, or the cache not be written.
    """
    settings: dict[str, Any]
    if isinstance(config, TextConfig):
        tokenizer = config.tokenizer
        settings = {"max_length": config.max_length, "truncation": config.truncation}
        if tokenizer.file is not None:
            path = Path(tokenizer.file)
            ready_made = TextEncoder.from_file(path, **settings)
            return ready_made, encoder_folder(ready_made)
        settings |= {
            "tokenizer": tokenizer.kind,
            "vocab_size": tokenizer.vocab_size,
            "min_frequency": tokenizer.min_frequency,
            "lowercase": tokenizer.lowercase,
        }
    else:
        assert isinstance(config, SeriesConfig)
        names = train.pieces[0][0].channel_names
        settings = {"normalize": config.normalize, "channel_names": names}
    folder = _cache() / fingerprint_of([LAYOUT, settings, train.fingerprint()])[:32]
    with _locked(folder):
        try:
            return encoder_from_dict(json.loads((folder / "encoder.json").read_text())), folder
        except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged
            pass
        if isinstance(config, TextConfig):
            texts = (str(row.value) for row in show_progress(train, "training the tokenizer"))
            fitted: Encoder = TextEncoder.fit(texts, **settings)
        else:
            series = (np.asarray(row.value) for row in show_progress(train, "normalising"))
            fitted = SeriesEncoder.fit(series, **settings)
        _write(folder / "encoder.json", lambda path: path.write_text(json.dumps(fitted.to_dict())))
    return fitted, folder


def encoder_folder(encoder: Encoder) -> Path:
    """The cache folder of an encoder that came from a file."""
    return _cache() / fingerprint_of([LAYOUT, encoder.to_dict()])[:32]


def encode_part(
    encoder: Encoder, folder: Path, part: Part, name: str
) -> tuple[EncodedSplit, Counts]:
    """The encoded rows of a part, memory-mapped from the encoder's cache folder.

    Args:
        encoder: fitted on rows of the same kind.
        folder: its cache folder.
        part: the rows.
        name: of the part, for the progress line.

    Raises:
        UserError: series with other channels than the encoder's, or the cache cannot be written.
    """
    import datasets  # not at the top: it takes half a second, and predictions do without

    place = folder / part.fingerprint()
    arrow, counted = place.with_suffix(".arrow"), place.with_suffix(".json")
    step_size = encoder.num_channels if isinstance(encoder, SeriesEncoder) else None
    with _locked(folder):
        try:
            counts = Counts(**json.loads(counted.read_text()))
            rows = datasets.Dataset.from_file(str(arrow))
            if len(rows) != len(part):
                raise ValueError("damaged")
        except (OSError, ValueError, TypeError):  # not there, or damaged
            counts = Counts()
            _write(arrow, lambda path: _encode(encoder, part, name, counts, path))
            _write(counted, lambda path: path.write_text(json.dumps(asdict(counts))))
            rows = datasets.Dataset.from_file(str(arrow))
    return EncodedSplit(rows, step_size), counts


def encode_values(encoder: Encoder, values: list[Any], counts: Counts) -> list[np.ndarray]:
    """Token ids [time] or normalised steps [time, channel] of each value, counted in `counts`."""
    counts.rows += len(values)
    if isinstance(encoder, SeriesEncoder):
        steps = encoder.encode(values)
    else:
        encoded = encoder.encode(values)
        steps = encoded.ids
        lengths = np.array([len(ids) for ids in steps])
        counts.truncated += int((encoded.full_lengths > lengths).sum())
        counts.cut += int((encoded.full_lengths - lengths).clip(min=0).sum())
        counts.unknown += int(encoded.unknown.sum())
    counts.steps += sum(map(len, steps))
    return steps


def batches_of(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Consecutive rows that fit into memory together, at least one at a time."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        if isinstance(row.value, str):
            size += len(row.value)
        elif row.value is not None:
            size += row.value.size
        if len(batch) >= ROWS_AT_ONCE or size >= SIZE_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _encode(encoder: Encoder, part: Part, name: str, counts: Counts, path: Path) -> None:
    if isinstance(encoder, SeriesEncoder):
        number: pa.DataType = pa.float32()
    else:  # half the disk and memory where it suffices
        number = pa.uint16() if encoder.vocab_size <= 2**16 else pa.int32()
    schema = pa.schema([("steps", pa.large_list(number)), ("target", pa.int64())])
    rows = show_progress(part, f"encoding {name}")
    targets, start = part.targets, 0
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for batch in batches_of(rows):
            steps = encode_values(encoder, [row.value for row in batch], counts)
            offsets = np.cumsum([0, *(array.size for array in steps)], dtype=np.int64)
            flat = np.concatenate([array.reshape(-1) for array in steps])
            values = pa.array(flat.astype(number.to_pandas_dtype(), copy=False))
            lists = pa.LargeListArray.from_arrays(pa.array(offsets), values)
            classes = pa.array(targets[start : start + len(batch)])
            writer.write_batch(pa.record_batch([lists, classes], schema=schema))
            start += len(batch)


def _cache() -> Path:
    import datasets  # see `encode_part`

    return Path(datasets.config.HF_DATASETS_CACHE) / "attnlstm"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """For the processes of one run and for runs at the same time: one writes, the others wait."""
    lock = FileLock(folder / "lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise _not_written(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def _write(path: Path, write: Any) -> None:
    try:
        with replacing(path) as partial:
            write(partial)
    except OSError as error:
        raise _not_written(path.parent, error) from error


def _not_written(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"the encoded rows cannot be written to {folder} ({error.strerror or error}): make room or "
        "set HF_DATASETS_CACHE to a folder that can be written"
    )
