"""Tokenizers of the `tokenizers` library: training one on texts, and reading one safely.

The library encodes and trains on one thread unless TOKENIZERS_PARALLELISM=true is set: with more,
a worker process that a DataLoader forks later could wait forever for threads that it does not have.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from attnlstm.errors import UserError

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

UNKNOWN = "[UNK]"
"""The unknown token of the tokenizers that are trained here: it always has the id 0."""

# Scripts that put no space between words: each of their characters is a token of its own.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
LETTER = rf"[[\p{{L}}\p{{N}}]&&[^{UNSPACED}]]"
PART = rf"{LETTER}(?:{LETTER}|\p{{M}})*"  # \p{M}: accents that have no composed character
WORD = "|".join(
    [
        r"\p{N}+(?:[.,]\p{N}+)+",  # 3.14 and 1,000
        rf"{PART}(?:'{PART})*",  # word, 3rd and don't
        r"[^\s]\p{M}*",  # punctuation, emoji, and characters of unspaced scripts
    ]
)
# Control and format characters, and variants of the same character, would make words differ that
# look the same.
INVISIBLE = r"[[\p{Cc}\p{Cf}\x{FE00}-\x{FE0F}\x{E0100}-\x{E01EF}]&&[^\s]]"
LONGEST_WORD = 1000  # characters
MOST_NORMALIZERS = 1000
MOST_PATTERNS, LONGEST_PATTERN = 100, 1000  # that are tried, and how many characters of each
MOST_GROWTH = 100  # times as long as it was, at most, may a text get by replacements
SURROGATES = re.compile("[\ud800-\udfff]")


def replace_surrogates(text: str) -> str:
    """`text` with U+FFFD for each lone surrogate, which UTF-8 and so the library cannot hold."""
    return SURROGATES.sub("\ufffd", text)


def train_tokenizer(
    texts: Iterable[str], kind: str, vocab_size: int, min_frequency: int, lowercase: bool
) -> Tokenizer:
    """A tokenizer whose tokens are the most frequent ones of `texts`, which are read once.

    The same texts, in any order, give the same tokens with the same ids. (For "unigram" that is
    not certain where tokens are equally likely at the limit of `vocab_size`, and probabilities,
    which decide how a text is cut, may differ in their last digits: the library adds them up in
    an order that changes from run to run.)

    Args:
        texts: the training texts; only their distinct words are held in memory.
        kind: "word" (words, numbers and punctuation marks), "character" (Unicode code points),
            "bpe" (byte pair encoding: Sennrich et al., 2016, on bytes, so that nothing is ever
            unknown) or "unigram" (the unigram language model: Kudo, 2018).
        vocab_size: the largest number of tokens, with "[UNK]".
        min_frequency: how often a word or character, or for "bpe" a pair, must occur at least;
            "unigram" has no such limit.
        lowercase: whether letter case is dropped.

    Raises:
        UserError: no token comes out, or `vocab_size` is too small for the kind.
    """
    model: models.Model
    pre_tokenizer: pre_tokenizers.PreTokenizer
    trainer: trainers.Trainer
    if kind in ("word", "character"):
        model = models.WordLevel(unk_token=UNKNOWN)
        pre_tokenizer = (
            pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
            if kind == "word"
            else pre_tokenizers.FixedLength(1)
        )
        trainer = trainers.WordLevelTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=[UNKNOWN],
            show_progress=False,
        )
    elif kind == "bpe":
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        if vocab_size < len(alphabet):
            raise UserError(
                f"data.tokenizer.vocab_size={vocab_size}: a bpe tokenizer has a token for each of "
                f"the {len(alphabet)} bytes: set at least that"
            )
        model = models.BPE()
        pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            initial_alphabet=alphabet,
            show_progress=False,
        )
    elif kind == "unigram":
        model = models.Unigram()
        pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
        )
        trainer = trainers.UnigramTrainer(
            vocab_size=vocab_size,
            special_tokens=[UNKNOWN],
            unk_token=UNKNOWN,
            show_progress=False,
        )
    else:
        raise ValueError(f"kind should be word, character, bpe or unigram, got {kind!r}")
    normalizer = _normalizer(kind, lowercase)
    # Training takes a time that grows with the square of a word's length, and a line without spaces
    # is one word: it is trained on in pieces.
    pieces = pre_tokenizers.FixedLength(LONGEST_WORD)
    tokenizer = _assemble(model, normalizer, pre_tokenizers.Sequence([pre_tokenizer, pieces]))
    try:
        tokenizer.train_from_iterator(map(replace_surrogates, texts), trainer)
    except Exception as error:  # the library has no exception of its own
        if "vocabulary is not large enough" not in str(error):
            raise
        raise UserError(
            f"data.tokenizer.vocab_size={vocab_size}: a unigram tokenizer has a token for each "
            "character of the training texts, and these have more: raise it"
        ) from error
    if kind != "bpe" and tokenizer.get_vocab_size() == 1:
        raise UserError(
            f"no {kind} occurs data.tokenizer.min_frequency={min_frequency} times in the training "
            f"texts within data.tokenizer.vocab_size={vocab_size}: lower the one or raise the other"
        )
    model = _in_fixed_order(tokenizer) if kind == "unigram" else tokenizer.model
    # Anew, without [UNK] as a "special token": in a text these five characters are like any others.
    return _assemble(model, normalizer, pre_tokenizer)


def read_tokenizer(content: str) -> Tokenizer:
    """The tokenizer that the JSON of a tokenizer.json describes, which may come from a stranger.

    Padding, truncation and BPE's random dropout of merges are switched off.

    Raises:
        ValueError: it is not such JSON, or the tokenizer cannot be used.
    """
    try:
        _check_growth(content)
        tokenizer = Tokenizer.from_str(content)
        ids = tokenizer.get_vocab().values()
        if not ids:
            raise ValueError("it has no tokens")
        # Each id up to the largest gets a row of the embedding. Checked before anything else is
        # asked of the tokenizer: the library goes through all of them.
        if max(ids) >= 2 * len(ids):
            raise ValueError(f"it has {len(ids)} tokens, but ids up to {max(ids)}")
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if isinstance(tokenizer.model, models.BPE):
            tokenizer.model.dropout = None
        if _lacks_unknown(json.loads(tokenizer.to_str())["model"]):
            raise ValueError("its model has no token for what it does not know")
        tokenizer.encode("A text.\n", add_special_tokens=False)
        with without_panics_on_stderr():
            tokenizer.encode_batch(_searched_for_long(content), add_special_tokens=False)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # Exception, or a panic of its Rust code: no Exception at all
        raise ValueError(f"no usable tokenizer of the tokenizers library: {error}") from error
    return tokenizer


@contextmanager
def without_panics_on_stderr() -> Iterator[None]:
    """The library's Rust code writes a report of a panic there; its exception says all of it."""
    try:
        stderr = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _searched_for_long(content: str) -> list[str]:
    """Short texts in which patterns of a tokenizer.json such as (a|a)*b are searched for too long.

    Each has something that a pattern may want again and again, and then all that may have to be in
    a text before it is searched at all. The library gives up after ten million steps, but only at
    one place of a text: a long text in which each place takes a little less would take for ever.
    """
    patterns: list[str] = []

    def collect(part: dict[str, Any]) -> dict[str, Any]:
        patterns.extend(text for text in [part.get("Regex")] if isinstance(text, str))
        return part

    json.loads(content, object_hook=collect)
    texts = []
    for pattern in patterns[:MOST_PATTERNS]:
        pieces = {
            *"a1 ",
            *pattern[:LONGEST_PATTERN],
            *re.findall(r"\w+", pattern[:LONGEST_PATTERN]),
        }
        texts += [f"{piece * 30}! {pattern} a1" for piece in sorted(pieces)]
    return texts


def _check_growth(content: str) -> None:
    """Raise a ValueError if normalizers, one after the other, could make a text many times longer.

    Forty that double a letter fill any memory, and the library then ends the whole process.
    """
    growth, found = 1, [json.loads(content).get("normalizer")]
    for _ in range(MOST_NORMALIZERS):
        if not found:
            return
        part = found.pop()
        if isinstance(part, dict):
            found += part.get("normalizers") or []
            growth *= max(1, len(str(part.get("content") or part.get("prepend") or "")))
        if growth > MOST_GROWTH:
            raise ValueError(
                f"its normalizer makes texts many times longer, more than {MOST_GROWTH}"
            )
    raise ValueError(f"it has more than {MOST_NORMALIZERS} normalizers")


def find_unknown_id(tokenizer: Tokenizer) -> int | None:
    """The id that stands for everything that `tokenizer` does not know; None without such an id."""
    model = json.loads(tokenizer.to_str())["model"]
    if model["type"] == "Unigram":
        unknown_id: int | None = model["unk_id"]
        return unknown_id
    token = model["unk_token"]
    return None if token is None else tokenizer.token_to_id(token)


def _assemble(
    model: models.Model,
    normalizer: normalizers.Normalizer,
    pre_tokenizer: pre_tokenizers.PreTokenizer,
) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    return tokenizer


def _normalizer(kind: str, lowercase: bool) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = [normalizers.NFKC()]
    if kind != "bpe":
        steps.append(normalizers.Replace(Regex(INVISIBLE), ""))
    if kind == "word":
        steps.append(normalizers.Replace("’", "'"))  # the apostrophe of don’t
    if lowercase:
        steps.append(normalizers.Lowercase())
    return normalizers.Sequence(steps)


def _in_fixed_order(tokenizer: Tokenizer) -> models.Unigram:
    """The tokenizer's model with the tokens numbered alphabetically behind [UNK].

    The trainer numbers them by probability, so that rounding errors change the ids. The library
    reads back from JSON only a few digits exactly, hence the rounded log probabilities.
    """
    unknown, *tokens = json.loads(tokenizer.to_str())["model"]["vocab"]
    vocabulary = [(token, round(score, 6)) for token, score in [unknown, *sorted(tokens)]]
    return models.Unigram(vocabulary, unk_id=0, byte_fallback=False)


def _lacks_unknown(model: dict[str, Any]) -> bool:
    """Whether encoding could fail for want of an unknown token."""
    if model["type"] == "Unigram":
        return model["unk_id"] is None
    token = model["unk_token"]
    # BPE can do without: in bytes nothing is unknown, and otherwise it leaves characters out
    return token not in model["vocab"] and not (model["type"] == "BPE" and token is None)
