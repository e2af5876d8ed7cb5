"""Rows to numbers, once: later runs read them from the cache of `datasets`, memory-mapped.

A fitted encoder has a folder in the cache, and so have the parts that an encoder has encoded: an
Arrow file of the rows and a JSON file of their counts. Every file is written next to its place and
then moved there, so a file is never incomplete. The JSON files hold digests, and what no longer
matches them is made again.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import tokenizers
from filelock import FileLock

from attnlstm.config.data import DataConfig, SeriesConfig, TextConfig
from attnlstm.data.batches import EncodedSplit
from attnlstm.data.checks import show_progress
from attnlstm.data.encoders.series import SeriesEncoder
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.data.encoders.tokenizer import train_tokenizer
from attnlstm.data.parts import Part
from attnlstm.data.rows import Row, chunked
from attnlstm.errors import UserError
from attnlstm.files import file_fingerprint, fingerprint_of, replacing

logger = logging.getLogger(__name__)

Encoder = TextEncoder | SeriesEncoder
T = TypeVar("T")

ROWS_AT_ONCE = 1000
SIZE_AT_ONCE = 2**24
"""Rows, and characters of texts or numbers of series, that are in memory at a time."""

LAYOUT = f"4, tokenizers {tokenizers.__version__}"
"""Changes when the same settings and rows are encoded differently."""

_CACHE: ContextVar[Path | None] = ContextVar("cache", default=None)


@contextmanager
def caching_in(folder: Path) -> Iterator[None]:
    """Use this folder instead of the cache of `datasets`."""
    token = _CACHE.set(folder)
    try:
        yield
    finally:
        _CACHE.reset(token)


@dataclass
class Counts:
    """What was seen while rows were encoded; the last three are for texts only."""

    rows: int = 0
    steps: int = 0  # tokens or time steps that are kept
    truncated: int = 0  # rows that lost steps
    cut: int = 0  # the steps that they lost
    unknown: int = 0  # kept tokens that the tokenizer does not know

    def describe(self, name: str, config: DataConfig) -> str:
        """Return a line for the log."""
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
    """Return the encoder whose `to_dict` gave `state`.

    Raises:
        ValueError: it is not the state of an encoder.
    """
    match state["kind"]:
        case "text":
            return TextEncoder.from_dict(state)
        case "series":
            return SeriesEncoder.from_dict(state)
    raise ValueError(f"unknown encoder {state['kind']!r}")


def fit_encoder(config: DataConfig, train: Part) -> Encoder:
    """Return the encoder for these training rows, fitted or from the cache.

    Raises:
        UserError: the tokenizer's file cannot be read, or the cache cannot be written.
    """
    settings: dict[str, Any]
    if isinstance(config, TextConfig):
        if config.tokenizer.file is not None:
            return TextEncoder.from_file(
                config.tokenizer.file, max_length=config.max_length, truncation=config.truncation
            )
        settings = config.model_dump(include={"tokenizer", "max_length", "truncation"})
    else:
        assert isinstance(config, SeriesConfig)
        source = train.pieces[0][0]
        settings = {
            "normalize": config.normalize,
            "channel_names": source.channel_names,
            "missing": config.missing,
            "axes": source.axes,
        }
    folder = _cache_folder(settings, train.fingerprint())
    path = folder / "encoder.json"

    def read() -> Encoder:
        return encoder_from_dict(_read_digested(path)[0])

    def write() -> None:
        _write_digested(path, [_fit(config, train).to_dict()])

    return _from_cache(folder, read, write)


def encode_part(encoder: Encoder, part: Part, name: str) -> tuple[EncodedSplit, Counts]:
    """Return the encoded rows of a part, memory-mapped from the cache.

    The name of the part is for the progress bar.

    Raises:
        UserError: series have other channels than the encoder, or the cache cannot be written.
    """
    import datasets  # not at the top: it takes half a second, and prediction does not need it

    folder = _cache_folder(encoder.to_dict())
    arrow = folder / f"{part.fingerprint()}.arrow"
    counted = arrow.with_suffix(".json")
    step_size = encoder.num_features if isinstance(encoder, SeriesEncoder) else None

    def read() -> tuple[EncodedSplit, Counts]:
        counts, digest = _read_digested(counted)
        if file_fingerprint(arrow) != digest:
            raise ValueError(f"{arrow} does not have its digest")
        rows = datasets.Dataset.from_file(str(arrow))
        if len(rows) != len(part):
            raise ValueError(f"{arrow} has {len(rows)} instead of {len(part)} rows")
        return EncodedSplit(rows, part.targets, step_size), Counts(**counts)

    def write() -> None:
        with replacing(arrow) as partial:
            counts = _write_encoded(encoder, part, name, partial)
        _write_digested(counted, [asdict(counts), file_fingerprint(arrow)])

    return _from_cache(folder, read, write)


def encode_values(encoder: Encoder, values: list[Any], counts: Counts) -> list[np.ndarray]:
    """Return token ids [time] or normalized steps [time, channel], and add to `counts`."""
    counts.rows += len(values)
    if isinstance(encoder, SeriesEncoder):
        steps = encoder.encode(values)
    else:
        encoded = encoder.encode(values)
        steps = encoded.ids
        cut = encoded.full_lengths - np.array([len(ids) for ids in steps], dtype=np.int64)
        counts.truncated += int((cut > 0).sum())
        counts.cut += int(cut.sum())
        counts.unknown += int(encoded.unknown.sum())
    counts.steps += sum(map(len, steps))
    return steps


def batches_of(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield consecutive rows that fit into memory together."""
    return chunked(rows, _size, ROWS_AT_ONCE, SIZE_AT_ONCE)


def _size(row: Row) -> int:
    size = row.value.size if isinstance(row.value, np.ndarray) else len(row.value or "")
    return size + sum(len(value or "") for value in row.kept)


def _fit(config: DataConfig, train: Part) -> Encoder:
    if isinstance(config, TextConfig):
        rows = show_progress(train, "training the tokenizer")
        tokenizer = train_tokenizer((str(row.value) for row in rows), config.tokenizer)
        return TextEncoder(tokenizer, max_length=config.max_length, truncation=config.truncation)
    assert isinstance(config, SeriesConfig)
    rows = show_progress(train, "normalizing")
    series = (np.asarray(row.value) for row in rows)
    source = train.pieces[0][0]
    return SeriesEncoder.fit(
        series, config.normalize, source.channel_names, config.missing, source.axes
    )


def _write_encoded(encoder: Encoder, part: Part, name: str, path: Path) -> Counts:
    number: pa.DataType = pa.float32()
    if isinstance(encoder, TextEncoder):  # small ids take half the disk and memory
        number = pa.uint16() if encoder.vocab_size <= 2**16 else pa.int32()
    schema = pa.schema([("steps", pa.large_list(number))])
    rows = show_progress(part, f"encoding {name}")
    counts = Counts()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for batch in batches_of(rows):
            steps = encode_values(encoder, [row.value for row in batch], counts)
            kind = number.to_pandas_dtype()
            flat = [array.astype(kind, copy=False).reshape(-1) for array in steps]
            writer.write_batch(pa.record_batch([flat], schema=schema))
    return counts


def _write_digested(path: Path, values: list[Any]) -> None:
    with replacing(path) as partial:
        partial.write_text(json.dumps([fingerprint_of(values), values]))


def _read_digested(path: Path) -> list[Any]:
    """Return the values that `_write_digested` has written.

    Raises:
        OSError: there is no such file.
        ValueError, RecursionError: it has been changed.
    """
    digest, values = json.loads(path.read_text())
    if fingerprint_of(values) != digest:
        raise ValueError(f"{path} does not have its digest")
    return list(values)


def _cache_folder(*content: Any) -> Path:
    import datasets  # see `encode_part`

    cache = _CACHE.get() or Path(datasets.config.HF_DATASETS_CACHE) / "attnlstm"
    return cache / fingerprint_of([LAYOUT, *content])[:32]


def _from_cache(folder: Path, read: Callable[[], T], write: Callable[[], None]) -> T:
    """Return what `read` returns, after `write` if the files are missing or damaged.

    Of several processes, and of several runs at the same time, one writes and the others wait.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            try:
                return read()
            except FileNotFoundError:
                pass
            except (OSError, ValueError, TypeError, RecursionError, UserError):
                logger.warning("the encoded rows in %s are damaged and are made again", folder)
            write()
            return read()
    except OSError as error:
        raise UserError(
            f"the encoded rows cannot be written to {folder} ({error.strerror or error}): make "
            "room or set HF_DATASETS_CACHE to a folder that can be written to"
        ) from error
