"""Texts to token ids, and back to the places in the text that the tokens stand for."""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from tokenizers import Encoding, Tokenizer

from attnlstm.data.encoders.tokenizer import (
    find_unknown_id,
    read_tokenizer,
    replace_surrogates,
    train_tokenizer,
    without_panics_on_stderr,
)
from attnlstm.errors import UserError

TRUNCATIONS = ("head", "tail")
LARGEST_FILE = 1 << 26  # bytes; a vocabulary of 250,000 tokens takes 17 million
CHUNK = 1024
CHUNK_SIZE = 1 << 20
"""Texts and characters encoded at once: the library's own results take 300 bytes a token."""


class EncodedTexts(NamedTuple):
    """Token ids of some texts, in order.

    ids: of each text an int32 array [time], truncated, never empty.
    full_lengths: [text] int64, the number of tokens before truncation.
    unknown: [text] int64, how many of the kept tokens are unknown ones.
    """

    ids: list[np.ndarray]
    full_lengths: np.ndarray
    unknown: np.ndarray


class TextEncoder:
    """Cuts texts into tokens and numbers them; truncates long ones.

    Ids are those of the text alone: nothing such as [CLS] or [SEP] is added, even where a
    tokenizer.json says so, and nothing is padded. A text without any token (an empty one, or one
    of control characters only) becomes one unknown token, so that every text has a step. Lone
    surrogates count as U+FFFD.

    Args:
        tokenizer: a trained tokenizer of the `tokenizers` library.
        max_length: how many tokens of a text are kept; None: all.
        truncation: which are kept: "head", the first ones, or "tail", the last ones.
    """

    kind = "text"

    def __init__(self, tokenizer: Tokenizer, *, max_length: int | None, truncation: str) -> None:
        if max_length is not None and max_length < 1:
            raise ValueError(f"max_length should be at least 1 or None, got {max_length}")
        if truncation not in TRUNCATIONS:
            raise ValueError(f"truncation should be head or tail, got {truncation!r}")
        self.max_length = max_length
        self.truncation = truncation
        self.unknown_id = find_unknown_id(tokenizer)
        self.vocab_size = max(tokenizer.get_vocab().values()) + 1  # rows of an embedding
        self._tokenizer = tokenizer
        self.origin = "the tokenizer"  # what messages call it

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        *,
        tokenizer: str,
        vocab_size: int,
        min_frequency: int,
        lowercase: bool,
        max_length: int | None,
        truncation: str,
    ) -> Self:
        """The encoder with a tokenizer trained on `texts`, which are read once, one by one.

        Args:
            texts: the training texts.
            tokenizer: "word", "character", "bpe" or "unigram"; see `train_tokenizer`.
            vocab_size: the largest number of tokens, with the unknown one.
            min_frequency: how often a token must occur at least ("unigram" has no such limit).
            lowercase: whether letter case is dropped.
            max_length: how many tokens of a text are kept; None: all.
            truncation: "head" or "tail".

        Raises:
            UserError: no token comes out, or `vocab_size` is too small for the kind.
        """
        trained = train_tokenizer(texts, tokenizer, vocab_size, min_frequency, lowercase)
        return cls(trained, max_length=max_length, truncation=truncation)

    @classmethod
    def from_file(cls, path: str | Path, *, max_length: int | None, truncation: str) -> Self:
        """The encoder with the tokenizer of a tokenizer.json of the `tokenizers` library.

        Its padding, truncation, BPE dropout, and the tokens such as [CLS] that its post-processor
        puts around a text, are switched off.

        Raises:
            UserError: the file cannot be read, or holds no usable tokenizer.
        """
        path = Path(path)
        try:
            if path.exists() and not path.is_file() and not path.is_dir():
                raise ValueError("it is not a file")  # but a pipe, which would be waited for
            if path.stat().st_size > LARGEST_FILE:
                raise ValueError(f"it has more than {LARGEST_FILE >> 20} MiB")
            tokenizer = read_tokenizer(path.read_text("utf-8"))
        except OSError as error:
            raise UserError(f"data.tokenizer.file={path}: {error.strerror}") from error
        except ValueError as error:  # also one of UTF-8
            reason = " ".join(str(error).split())
            raise UserError(
                f"data.tokenizer.file={path}: {reason}: choose another tokenizer.json"
            ) from error
        encoder = cls(tokenizer, max_length=max_length, truncation=truncation)
        encoder.origin = f"data.tokenizer.file={path}"
        return encoder

    def vocabulary(self) -> dict[str, int]:
        """The id of every token, in the tokenizer's own spelling."""
        return self._tokenizer.get_vocab()

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """The ids of every text, in order.

        Raises:
            UserError: a pattern of the tokenizer takes too long.
        """
        ids: list[np.ndarray] = []
        full_lengths = np.empty(len(texts), dtype=np.int64)
        unknown = np.empty(len(texts), dtype=np.int64)
        fallback = 0 if self.unknown_id is None else self.unknown_id
        for chunk in _chunks(map(replace_surrogates, texts)):
            for encoding in self._encode_chunk(chunk):
                row = len(ids)
                all_ids = np.array(encoding.ids or [fallback], dtype=np.int32)
                kept = all_ids[self._kept(len(all_ids))]
                full_lengths[row] = len(all_ids)
                unknown[row] = np.count_nonzero(kept == self.unknown_id) if encoding.ids else 1
                ids.append(kept.copy() if len(kept) < len(all_ids) else kept)
        return EncodedTexts(ids, full_lengths, unknown)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where in `text` each token comes from that `encode` keeps: [start, end) in characters.

        Starts and ends never fall from one token to the next. Spans overlap where tokens share a
        character: the bytes of one under "bpe", or "ﬁ", which is normalised to two letters. With
        "bpe" a word's span begins with the space before it. The unknown token of a text that has
        no token spans the whole text.
        """
        offsets = self._encode_one(text).offsets or [(0, len(text))]
        return _with_merged_characters(text, offsets)[self._kept(len(offsets))]

    def tokens(self, text: str) -> list[str]:
        """The piece of `text` of each token that `encode` keeps, as in `spans`.

        Where the span is empty it is the tokenizer's own spelling of the token.
        """
        encoding = self._encode_one(text)
        fallback = 0 if self.unknown_id is None else self.unknown_id
        names = encoding.tokens or [self._tokenizer.id_to_token(fallback) or ""]
        names = names[self._kept(len(names))]
        return [
            text[start:end] or name
            for (start, end), name in zip(self.spans(text), names, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint; `from_dict` gives the same encoder back."""
        return {
            "kind": self.kind,
            "tokenizer": self._tokenizer.to_str(),
            "max_length": self.max_length,
            "truncation": self.truncation,
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """The encoder that `to_dict` was called on.

        Raises:
            ValueError: the state is none of `to_dict`, as in a file that was tampered with.
        """
        content, max_length = state.get("tokenizer"), state.get("max_length")
        if not isinstance(content, str):
            raise ValueError("the text encoder has no tokenizer")
        if type(max_length) is not int and max_length is not None:
            raise ValueError(f"max_length should be a whole number or None, got {max_length!r}")
        return cls(
            read_tokenizer(content), max_length=max_length, truncation=state.get("truncation", "")
        )

    def _encode_one(self, text: str) -> Encoding:
        return self._encode_chunk([replace_surrogates(text)], offsets=True)[0]

    def _encode_chunk(self, texts: list[str], offsets: bool = False) -> list[Encoding]:
        encode = self._tokenizer.encode_batch if offsets else self._tokenizer.encode_batch_fast
        try:
            with without_panics_on_stderr():
                return encode(texts, add_special_tokens=False)
        except (Exception, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of the library's Rust code
            # Its search for a pattern such as (a+)+$ gives up after ten million steps.
            raise UserError(
                f"{self.origin} cannot encode these texts ({error}): choose another tokenizer.json"
            ) from error

    def _kept(self, length: int) -> slice:
        """Which of `length` tokens are kept."""
        if self.max_length is None or length <= self.max_length:
            return slice(None)
        if self.truncation == "head":
            return slice(self.max_length)
        return slice(length - self.max_length, None)


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        if len(chunk) == CHUNK or (chunk and size + len(text) > CHUNK_SIZE):
            yield chunk
            chunk, size = [], 0
        chunk.append(text)
        size += len(text)
    if chunk:
        yield chunk


def _with_merged_characters(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """`spans` that cover too what normalisation merged into a token's last character.

    The library gives the place of an accented letter as that of its first character, although the
    accent can be a character of its own.
    """
    extended = []
    limit = len(text)  # where the next token begins
    previous: tuple[int, int] | None = None
    for start, end in reversed(spans):
        if (start, end) != previous:
            if previous is not None:
                limit = previous[0]
            previous = start, end
            covered = end
            while covered < limit and not _is_between_tokens(text[covered]):
                covered += 1
        extended.append((start, covered))
    return extended[::-1]


def _is_between_tokens(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in ("Cc", "Cf")
