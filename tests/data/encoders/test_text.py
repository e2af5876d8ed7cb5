import json
import multiprocessing
import random
import sys
import unicodedata
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attnlstm.config.data import TokenizerConfig
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.data.encoders.tokenizer import train_tokenizer
from attnlstm.errors import UserError

KINDS = ("word", "character", "bpe", "unigram")
TEXTS = [
    "The movie was great, really great.",
    "I don't like it: the plot is thin and the ending is worse than the plot.",
    "Привет, мир! 3.14 und 1,000 Straßen",
    "我喜欢这部电影 but not 这首歌",
    "ｆｕｌｌ ｗｉｄｔｈ ﬁne café 😀 👩‍🚀",
]
# Python and the library know different versions of Unicode, and agree on what an old one has.
ASSIGNED = st.characters(exclude_categories=["Cn", "Cs", "Co"]).filter(
    lambda character: unicodedata.ucd_3_2_0.category(character) != "Cn"
)
TEXT = st.text(ASSIGNED | st.sampled_from("aB 'é\u0301ﬁİ½😀中\x00'’"), max_size=30)


def fit(texts, kind="word", max_length=None, truncation="head", **options):
    config = TokenizerConfig(kind=kind, **{"vocab_size": 1000, **options})
    tokenizer = train_tokenizer(iter(texts), config)
    return TextEncoder(tokenizer, max_length=max_length, truncation=truncation)


def words_of(text, **options):
    """Return the tokens of a text in the tokenizer's own spelling."""
    encoder = fit([text], **options)
    names = {number: token for token, number in encoder.vocabulary().items()}
    return [names[number] for number in encoder.encode([text]).ids[0].tolist()]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World!", ["hello", ",", "world", "!"]),
        ("I don't, you don’t", ["i", "don't", ",", "you", "don't"]),
        ("'quoted' rock'n'roll", ["'", "quoted", "'", "rock'n'roll"]),
        ("3.14 1,000,000 3rd b2b 50%.", ["3.14", "1,000,000", "3rd", "b2b", "50", "%", "."]),
        ("state-of-the_art", ["state", "-", "of", "-", "the", "_", "art"]),
        ("我喜欢NLP模型。", ["我", "喜", "欢", "nlp", "模", "型", "。"]),
        ("ひらがなとカタカナー", list("ひらがなとカタカナー")),
        ("ลัง", ["ลั", "ง"]),
        ("한국어 텍스트", ["한국어", "텍스트"]),
        ("हिन्दी नमस्ते", ["हिन्दी", "नमस्ते"]),
        ("ﬁne ｆｕｌｌ cafe\u0301", ["fine", "full", "café"]),
        ("so\u00adft ze\u200bro\x00\ufeff", ["soft", "zero"]),
        ("❤\ufe0fyou 😀😀", ["❤", "you", "😀", "😀"]),
        ("[UNK] [CLS]", ["[", "unk", "]", "[", "cls", "]"]),
        ("tab\tline\nbreak\u00a0space\u2028end", ["tab", "line", "break", "space", "end"]),
    ],
)
def test_words(text, words):
    assert words_of(text) == words


def test_letter_case_can_be_kept():
    assert words_of("The THE the", lowercase=False) == ["The", "THE", "the"]
    assert words_of("The THE the") == ["the"] * 3


def test_characters_are_code_points():
    assert words_of("Ab é\n中😀", kind="character") == list("ab é\n中😀")


def test_the_vocabulary_holds_the_most_frequent_words():
    counts = {"a": 5, "b": 5, "c": 4, "d": 2, "e": 1}
    texts = [word for word, count in counts.items() for _ in range(count)]
    assert fit(texts).vocabulary() == {"[UNK]": 0, "a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
    assert fit(texts, vocab_size=4).vocabulary() == {"[UNK]": 0, "a": 1, "b": 2, "c": 3}
    assert fit(texts, min_frequency=4).vocabulary() == {"[UNK]": 0, "a": 1, "b": 2, "c": 3}
    encoder = fit(texts, min_frequency=4)
    assert (encoder.vocab_size, encoder.unknown_id) == (4, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_training_does_not_depend_on_run_or_order(kind):
    draw = random.Random(0)
    texts = [
        " ".join("".join(draw.choices("abcdefgh", k=draw.randint(1, 4))) for _ in range(9))
        for _ in range(60)
    ]
    texts += "αβγδεζηθικλμνξοπρστυφχψω"  # as rare as can be
    counts = Counter(" ".join(texts).split()).values()
    assert len(set(counts)) < len(counts) / 2  # words that are equally frequent
    vocab_size = {"word": 40, "character": 20, "bpe": 300, "unigram": 100}[kind]
    reference = fit(texts, kind, vocab_size=vocab_size)
    assert reference.vocab_size == vocab_size
    for seed in range(3):
        random.Random(seed).shuffle(texts)
        assert fit(texts, kind, vocab_size=vocab_size).vocabulary() == reference.vocabulary()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lowercase", [True, False])
@given(text=TEXT)
@settings(max_examples=60, deadline=None)
@example("cafe\u0301 e\u0301")
@example("İstanbul ﬁne ½ ﷺ")
@example("a\u0323\u0302b \u1100\u1161\u11a8 ｶﾞ")
@example("𝔘𝔫𝔦 😀\U00020000x กำ")
def test_spans_lie_in_the_text_in_order(kind, lowercase, text):
    encoder = fit([text, *TEXTS], kind, lowercase=lowercase)
    spans = encoder.spans(text)
    assert len(spans) == len(encoder.encode([text]).ids[0]) == len(encoder.tokens(text))
    starts, ends = zip(*spans, strict=True)
    assert list(starts) == sorted(starts)
    assert list(ends) == sorted(ends)
    assert all(0 <= start <= end <= len(text) for start, end in spans)


SPACES = "\t\n\v\f\r\x85"


def normalize(piece, lowercase=True):
    kept = [
        character
        for character in unicodedata.normalize("NFKC", piece)
        if unicodedata.category(character) not in ("Cc", "Cf") or character in SPACES
    ]
    # one by one: Python's lower() looks at what is around a Σ
    return "".join(c.lower() if lowercase else c for c in kept).replace("’", "'")


@given(text=TEXT)
@settings(max_examples=150, deadline=None)
@example("cafe\u0301 ﬁne İstanbul don’t")
@example("𝔘𝔫𝔦 😀😀 \U00020000x")
def test_the_span_of_a_word_normalized_is_the_word(text):
    encoder = fit([text, *TEXTS], "word")
    names = {number: token for token, number in encoder.vocabulary().items()}
    if not normalize(text).strip():
        return  # no token
    ids = encoder.encode([text]).ids[0].tolist()
    for number, (start, end) in zip(ids, encoder.spans(text), strict=True):
        assert names[number] in normalize(text[start:end])


def test_pieces_of_the_text_are_the_tokens():
    text = "The ﬁne İstanbul cafe\u0301, I don’t know 中文 😀!"
    assert fit([text]).tokens(text) == [
        *("The", "ﬁne", "İstanbul", "cafe\u0301", ",", "I", "don’t", "know"),
        *("中", "文", "😀", "!"),
    ]


@given(text=TEXT.filter(len))
@settings(max_examples=100, deadline=None)
def test_bytes_lose_no_character(text):
    encoder = fit(TEXTS, "bpe", lowercase=False)
    covered = {i for start, end in encoder.spans(text) for i in range(start, end)}
    assert covered >= {i for i, c in enumerate(text) if c.isalnum()}
    assert encoder.encode([text]).unknown.tolist() == [0]
    assert encoder.unknown_id is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(TEXT, min_size=1, max_size=4), max_length=st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_truncation_keeps_an_end(kind, texts, max_length):
    state = fit(TEXTS, kind).to_dict()
    encoder = TextEncoder.from_dict(state)
    whole = encoder.encode(texts)
    assert whole.full_lengths.tolist() == [len(ids) for ids in whole.ids]
    for truncation, kept in (("head", slice(max_length)), ("tail", slice(-max_length, None))):
        short = TextEncoder.from_dict(state | {"max_length": max_length, "truncation": truncation})
        encoded = short.encode(texts)
        np.testing.assert_array_equal(encoded.full_lengths, whole.full_lengths)
        for row, text in enumerate(texts):
            np.testing.assert_array_equal(encoded.ids[row], whole.ids[row][kept])
            assert encoded.ids[row].dtype == np.int32
            assert short.spans(text) == encoder.spans(text)[kept]
            assert short.tokens(text) == encoder.tokens(text)[kept]
            if encoder.unknown_id is not None:
                assert encoded.unknown[row] == (encoded.ids[row] == encoder.unknown_id).sum()


def test_unknown_tokens_are_counted_among_the_kept():
    encoder = fit(["a b c"], max_length=3, truncation="tail")
    encoded = encoder.encode(["x a y b", "x x x a b c", "a"])
    assert [ids.tolist() for ids in encoded.ids] == [[1, 0, 2], [1, 2, 3], [1]]
    assert encoded.unknown.tolist() == [1, 0, 0]
    assert encoded.full_lengths.tolist() == [4, 6, 1]


@pytest.mark.parametrize("kind", ["word", "character", "unigram"])
@pytest.mark.parametrize("text", ["", "\x00\x01", "\u200b\ufeff"])
def test_a_text_without_tokens_is_one_unknown_token(kind, text):
    encoder = fit(TEXTS, kind)
    encoded = encoder.encode(["the", text])
    assert encoded.ids[1].tolist() == [encoder.unknown_id]
    assert (encoded.full_lengths[1], encoded.unknown[1]) == (1, 1)
    assert encoder.spans(text) == [(0, len(text))]
    assert encoder.tokens(text) == [text or "[UNK]"]


def test_without_an_unknown_token_the_first_one_is_used():
    encoder = fit(TEXTS, "bpe")
    encoded = encoder.encode([""])
    assert (encoded.ids[0].tolist(), encoded.unknown.tolist()) == ([0], [1])
    assert encoder.spans("") == [(0, 0)]
    assert len(encoder.tokens("")) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_lone_surrogates_are_replaced(kind):
    encoder = fit(["good \ud800 film \udc00"], kind)
    text = "good\udfff film \ud83d\ude00"
    replaced = text.replace("\udfff", "\ufffd").replace("\ud83d\ude00", "\ufffd\ufffd")
    np.testing.assert_array_equal(encoder.encode([text]).ids[0], encoder.encode([replaced]).ids[0])
    assert encoder.spans(text) == encoder.spans(replaced)


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip_through_json(kind):
    encoder = fit(TEXTS, kind, max_length=5, truncation="tail")
    state = encoder.to_dict()
    assert state["kind"] == "text"
    restored = TextEncoder.from_dict(json.loads(json.dumps(state)))
    assert restored.to_dict() == state
    assert restored.vocabulary() == encoder.vocabulary()
    assert (restored.vocab_size, restored.unknown_id) == (encoder.vocab_size, encoder.unknown_id)
    for one, other in zip(restored.encode(TEXTS), encoder.encode(TEXTS), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_more_texts_than_are_encoded_at_once():
    encoder = fit(["a b c"])
    texts = ["a", "b c", "x"] * 1000
    encoded = encoder.encode(texts)
    assert [ids.tolist() for ids in encoded.ids] == [[1], [2, 3], [0]] * 1000
    assert encoded.unknown.tolist() == [0, 0, 1] * 1000
    assert [len(part) for part in encoder.encode([])] == [0, 0, 0]


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer": None},
        {"tokenizer": 3},
        {"max_length": 0},
        {"max_length": "5"},
        {"max_length": True},
        {"truncation": "middle"},
        {"truncation": None},
    ],
)
def test_manipulated_states_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        TextEncoder.from_dict(fit(TEXTS).to_dict() | change)


def test_impossible_vocabularies():
    with pytest.raises(UserError, match=r"vocab_size=255: a bpe .* 256 bytes"):
        fit(TEXTS, "bpe", vocab_size=255)
    with pytest.raises(UserError, match=r"vocab_size=5: a unigram .* character"):
        fit(TEXTS, "unigram", vocab_size=5)
    with pytest.raises(UserError, match=r"no word occurs data.tokenizer.min_frequency=9 times"):
        fit(TEXTS, min_frequency=9)
    for kind in ("word", "character", "unigram"):
        with pytest.raises(UserError, match=f"no {kind} occurs"):
            fit([], kind)
    with pytest.raises(ValueError, match=r"kind\s+Input should be 'word'"):
        fit(TEXTS, "sentence")


def test_an_error_while_reading_rows_is_raised():
    def rows():
        yield "a"
        raise UserError("row 1 has no text")

    for kind in KINDS:
        with pytest.raises(UserError, match="row 1 has no text"):
            fit(rows(), kind)


def encode_and_exit(encoder, texts):
    sys.exit(len(encoder.encode(texts).ids) == len(texts) and 7)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_forked_processes_encode_in_silence(capfd):
    texts = ["a b"] * 3000
    encoder = fit(texts, "bpe")
    encoder.encode(texts)  # with threads in this process, the library would warn in the next
    process = multiprocessing.get_context("fork").Process(
        target=encode_and_exit, args=(encoder, texts)
    )
    process.start()
    process.join(timeout=60)
    process.kill()
    assert process.exitcode == 7
    assert capfd.readouterr() == ("", "")
