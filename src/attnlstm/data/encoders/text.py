"""Texts to token ids, and back to the pieces of the text that the tokens stand for."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, get_args

import numpy as np
from tokenizers import Encoding, Tokenizer

from attnlstm.config.data import Truncation
from attnlstm.data.encoders.tokenizer import (
    encode,
    find_unknown_id,
    read_tokenizer,
    replace_surrogates,
)
from attnlstm.data.rows import chunked
from attnlstm.errors import UserError

TRUNCATIONS = get_args(Truncation)
LARGEST_FILE = 1 << 26  # bytes; a vocabulary of 250,000 tokens takes 17 million
CHUNK = 1024
CHUNK_SIZE = 1 << 20
"""Texts and characters encoded at once: the library's results take 300 bytes a token."""


class EncodedTexts(NamedTuple):
    """Token ids of some texts, in order."""

    ids: list[np.ndarray]  # for each text [time] int32, truncated, never empty
    full_lengths: np.ndarray  # [text] int64, the number of tokens before truncation
    unknown: np.ndarray  # [text] int64, the number of kept tokens that are unknown


class TextEncoder:
    """Splits texts into tokens and numbers them; truncates long texts.

    Nothing such as [CLS] or [SEP] is added, even if a tokenizer.json asks for it, and nothing is
    padded. A text without tokens (empty, or with control characters only) becomes one unknown
    token, so that every text has a step. Lone surrogates count as U+FFFD.

    Args:
        tokenizer: a trained tokenizer of the `tokenizers` library.
        max_length: the largest number of tokens to keep; None: all.
        truncation: "head" keeps the first tokens, "tail" the last ones.
    """

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
        if truncation == "head" or max_length is None:
            self._kept = slice(max_length)  # of the tokens of a text
        else:
            self._kept = slice(-max_length, None)

    @classmethod
    def from_file(cls, path: str | Path, *, max_length: int | None, truncation: str) -> Self:
        """Return the encoder with the tokenizer of a tokenizer.json of the `tokenizers` library.

        Its padding, truncation, BPE dropout and post-processor, which adds tokens such as [CLS],
        are switched off.

        Raises:
            UserError: the file cannot be read, or holds no usable tokenizer.
        """
        path = Path(path)
        try:
            if path.exists() and not path.is_file() and not path.is_dir():
                raise ValueError("it is not a file")  # reading a pipe would wait for its writer
            if path.stat().st_size > LARGEST_FILE:
                raise ValueError(f"it has more than {LARGEST_FILE >> 20} MiB")
            tokenizer = read_tokenizer(path.read_text("utf-8"))
        except OSError as error:
            raise UserError(f"data.tokenizer.file={path}: {error.strerror}") from error
        except ValueError as error:  # includes UnicodeDecodeError
            reason = " ".join(str(error).split())
            raise UserError(
                f"data.tokenizer.file={path}: {reason}: choose another tokenizer.json"
            ) from error
        return cls(tokenizer, max_length=max_length, truncation=truncation)

    def vocabulary(self) -> dict[str, int]:
        """Return the id of every token, in the tokenizer's own spelling."""
        return self._tokenizer.get_vocab()

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """Return the ids of every text, in order.

        Raises:
            UserError: a pattern of the tokenizer takes too long.
        """
        ids: list[np.ndarray] = []
        full_lengths, unknown = np.empty((2, len(texts)), dtype=np.int64)
        for chunk in chunked(map(replace_surrogates, texts), len, CHUNK, CHUNK_SIZE):
            for row, encoding in enumerate(self._encode_chunk(chunk), start=len(ids)):
                all_ids = np.array(encoding.ids or [self.unknown_id or 0], dtype=np.int32)
                kept = all_ids[self._kept]
                full_lengths[row] = len(all_ids)
                unknown[row] = np.count_nonzero(kept == self.unknown_id) if encoding.ids else 1
                ids.append(kept.copy() if len(kept) < len(all_ids) else kept)
        return EncodedTexts(ids, full_lengths, unknown)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return where in `text` each kept token comes from: [start, end) in characters.

        Starts and ends never decrease. Spans overlap if tokens share a character, such as the bytes
        of one under "bpe", or "ﬁ", which is normalized to two letters. Under "bpe", the span of a
        word begins with the space before it. The unknown token of a text without tokens spans the
        whole text.
        """
        offsets = self._encode_one(text).offsets or [(0, len(text))]
        return _with_merged_characters(text, offsets)[self._kept]

    def tokens(self, text: str) -> list[str]:
        """Return the piece of `text` that each kept token comes from, as in `spans`.

        For an empty span it is the tokenizer's own spelling of the token.
        """
        unknown = self._tokenizer.id_to_token(self.unknown_id or 0) or ""
        names = (self._encode_one(text).tokens or [unknown])[self._kept]
        return [
            text[start:end] or name
            for (start, end), name in zip(self.spans(text), names, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {
            "kind": "text",
            "tokenizer": self._tokenizer.to_str(),
            "max_length": self.max_length,
            "truncation": self.truncation,
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """Return the encoder that `to_dict` was called on.

        Raises:
            ValueError: `to_dict` returns no such state, as from a manipulated file.
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
        try:
            return encode(self._tokenizer, texts, offsets=offsets)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            # The search for a pattern such as (a+)+$ panics after ten million steps.
            if isinstance(error, Exception) and not isinstance(error, TimeoutError):
                raise
            raise UserError(
                f"the tokenizer cannot encode these texts ({error}): choose another "
                "data.tokenizer.file"
            ) from error


def _with_merged_characters(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Extend `spans` to the characters that normalization merged into the last one of a token.

    The library places an accented letter at its first character, although the accent can be a
    character of its own.
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
