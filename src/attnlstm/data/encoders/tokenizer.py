"""Tokenizers of the `tokenizers` library: training one on texts, and reading one safely.

The library uses one thread unless TOKENIZERS_PARALLELISM=true is set: with more, a worker process
that a DataLoader forks later could wait forever for threads that it does not have.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tokenizers import Encoding, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from attnlstm.config.data import TokenizerConfig
from attnlstm.data.encoders.bounded import run_bounded
from attnlstm.errors import UserError

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

UNKNOWN = "[UNK]"
"""The unknown token of tokenizers that are trained here, with the id 0."""

# Scripts without spaces between words: each character is a token of its own.
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
# Control and format characters and variation selectors: words that look the same would differ.
INVISIBLE = r"[[\p{Cc}\p{Cf}\x{FE00}-\x{FE0F}\x{E0100}-\x{E01EF}]&&[^\s]]"
LONGEST_WORD = 1000  # characters
MOST_NORMALIZERS = 1000
MOST_PATTERNS, LONGEST_PATTERN = 100, 1000  # that are tried, and the characters of each
LEAST_SECONDS, SECONDS_PER_CHARACTER = 5.0, 1e-5
"""Processor time for some texts: usual tokenizers take 1e-7 to 2e-6 s per character."""
FEW_CHARACTERS = 128
"""The cube of so few is nothing, and another thread would take ten times as long."""
MOST_GROWTH = 100  # how many times longer replacements may make a text
SURROGATES = re.compile("[\ud800-\udfff]")


def replace_surrogates(text: str) -> str:
    """Replace each lone surrogate, which UTF-8 and so the library cannot hold, with U+FFFD."""
    return SURROGATES.sub("\ufffd", text)


def train_tokenizer(texts: Iterable[str], options: TokenizerConfig) -> Tokenizer:
    """Return a tokenizer with the most frequent tokens of `texts`, which are read once.

    Only the distinct words of the texts are held in memory. The same texts, in any order, give the
    same tokens with the same ids. ("unigram" may choose differently between tokens that are equally
    likely at the limit of `vocab_size`, and the last digits of its probabilities, which decide how
    a text is split, change from run to run with the order in which the library adds them up.)

    The kinds are "word" (words, numbers and punctuation marks), "character" (Unicode code points),
    "bpe" (byte pair encoding: Sennrich et al., 2016, on bytes, so that nothing is unknown) and
    "unigram" (the unigram language model: Kudo, 2018), which has no `min_frequency`.

    Raises:
        UserError: no token is left, or `vocab_size` is too small for the kind.
    """
    kind, vocab_size = options.kind, options.vocab_size
    limits: dict[str, Any] = {"vocab_size": vocab_size, "show_progress": False}
    model: models.Model
    pre_tokenizer: pre_tokenizers.PreTokenizer
    trainer: trainers.Trainer
    if kind == "bpe":
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        if vocab_size < len(alphabet):
            raise UserError(
                f"data.tokenizer.vocab_size={vocab_size}: a bpe tokenizer has a token for each of "
                f"the {len(alphabet)} bytes: set at least that"
            )
        model = models.BPE()
        pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            min_frequency=options.min_frequency, initial_alphabet=alphabet, **limits
        )
    elif kind == "unigram":
        model = models.Unigram()
        pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
        )
        trainer = trainers.UnigramTrainer(special_tokens=[UNKNOWN], unk_token=UNKNOWN, **limits)
    else:
        model = models.WordLevel(unk_token=UNKNOWN)
        pre_tokenizer = (
            pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
            if kind == "word"
            else pre_tokenizers.FixedLength(1)
        )
        trainer = trainers.WordLevelTrainer(
            min_frequency=options.min_frequency, special_tokens=[UNKNOWN], **limits
        )
    normalizer = _normalizer(kind, options.lowercase)
    # The time to train grows with the square of a word's length, and a line without spaces is one
    # word: it is trained on in pieces.
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
            f"no {kind} occurs data.tokenizer.min_frequency={options.min_frequency} times in the "
            f"training texts within data.tokenizer.vocab_size={vocab_size}: lower the one or raise "
            "the other"
        )
    model = _in_fixed_order(tokenizer) if kind == "unigram" else tokenizer.model
    # In a new tokenizer, [UNK] is not a "special token": in a text it is like any other characters.
    return _assemble(model, normalizer, pre_tokenizer)


def read_tokenizer(content: str) -> Tokenizer:
    """Return the tokenizer of a tokenizer.json, which need not be trustworthy.

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
        # Each id up to the largest gets a row of the embedding. This is checked first, as the
        # library goes through all of them.
        if max(ids) >= 2 * len(ids):
            raise ValueError(f"it has {len(ids)} tokens, but ids up to {max(ids)}")
        tokenizer.no_padding()
        tokenizer.no_truncation()
        model = tokenizer.model
        if isinstance(model, models.BPE):
            model.dropout = None
        # BPE can do without: of bytes none is unknown, and other characters are left out
        needs_unknown = not isinstance(model, models.BPE) or model.unk_token is not None
        if needs_unknown and find_unknown_id(tokenizer) is None:
            raise ValueError("its model has no token for what it does not know")
        texts = ["A text.\n", *_slow_to_search(content)]
        encode(tokenizer, texts, offsets=True, seconds=LEAST_SECONDS)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the library's Rust code is not an Exception
        raise ValueError(f"no usable tokenizer of the tokenizers library: {error}") from error
    return tokenizer


def find_unknown_id(tokenizer: Tokenizer) -> int | None:
    """Return the id that stands for everything that the tokenizer does not know, if it has one."""
    model = tokenizer.model
    if isinstance(model, models.Unigram):
        unknown_id: int | None = json.loads(tokenizer.to_str())["model"]["unk_id"]
        return unknown_id
    return None if model.unk_token is None else model.token_to_id(model.unk_token)


def encode(
    tokenizer: Tokenizer, texts: list[str], *, offsets: bool, seconds: float | None = None
) -> list[Encoding]:
    """Encode texts without special tokens.

    Patterns and long tokens of a tokenizer.json may take the square or the cube of a text's length.

    Args:
        seconds: the processor time that it may take; None: many times what usual tokenizers take.

    Raises:
        TimeoutError: it takes longer.
        BaseException: the library panics.
    """
    call = tokenizer.encode_batch if offsets else tokenizer.encode_batch_fast
    size = sum(map(len, texts))
    if seconds is None:
        seconds = LEAST_SECONDS + SECONDS_PER_CHARACTER * size
    with _without_panics_on_stderr():
        if size <= FEW_CHARACTERS:
            return call(texts, add_special_tokens=False)
        try:
            return run_bounded(lambda: call(texts, add_special_tokens=False), seconds)
        except TimeoutError:
            raise TimeoutError(
                f"it takes more than {seconds:.0f} s for {size:,} characters"
            ) from None


@contextmanager
def _without_panics_on_stderr() -> Iterator[None]:
    """Silence the report that the library's Rust code writes about a panic that it also raises."""
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


def _slow_to_search(content: str) -> list[str]:
    """Return short texts in which patterns such as (a|a)*b are searched for too long.

    Each text repeats something that a pattern may repeat, and ends with all that it may need to
    begin at all. The library gives up after ten million steps, but at each place of a text anew: a
    long text in which every place takes a little less would take forever.
    """
    patterns: list[str] = []

    def collect(part: dict[str, Any]) -> dict[str, Any]:
        patterns.extend(text for text in [part.get("Regex")] if isinstance(text, str))
        return part

    json.loads(content, object_hook=collect)
    texts = []
    for pattern in patterns[:MOST_PATTERNS]:
        start = pattern[:LONGEST_PATTERN]
        pieces = {*"a1 ", *start, *re.findall(r"\w+", start)}
        texts += [f"{piece * 30}! {pattern} a1" for piece in sorted(pieces)]
    return texts


def _check_growth(content: str) -> None:
    """Refuse normalizers that together could make a text many times longer.

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
        steps.append(normalizers.Replace("’", "'"))  # as in don’t
    if lowercase:
        steps.append(normalizers.Lowercase())
    return normalizers.Sequence(steps)


def _in_fixed_order(tokenizer: Tokenizer) -> models.Unigram:
    """Return the tokenizer's model with the tokens numbered alphabetically after [UNK].

    The trainer numbers them by probability, so rounding errors would change the ids. The log
    probabilities are rounded because the library reads only a few digits of JSON exactly.
    """
    unknown, *tokens = json.loads(tokenizer.to_str())["model"]["vocab"]
    vocabulary = [(token, round(score, 6)) for token, score in [unknown, *sorted(tokens)]]
    return models.Unigram(vocabulary, unk_id=0, byte_fallback=False)
