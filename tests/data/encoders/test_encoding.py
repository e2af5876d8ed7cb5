"""Encoded rows are what the encoder makes of them, and the log says how many there are."""

from pathlib import Path

import numpy as np
import pytest

from attnlstm.config.data import TokenizerConfig
from attnlstm.data.encoders.encoding import Counts, encode_part, fit_encoder
from attnlstm.data.parts import Part
from tests.data.encoders.encoded import SERIES, TEXTS, changed, encode, make_series, make_texts


@pytest.mark.parametrize("count", [1, 999, 1000, 2500])
def test_texts_are_what_the_encoder_makes_of_them(part_of, count):
    texts = make_texts(count)
    encoder, split, counts = encode(changed(TEXTS, max_length=8), part_of(texts))
    expected = encoder.encode(texts).ids
    assert len(split) == count
    assert split.lengths.tolist() == list(map(len, expected))
    assert split.targets.tolist() == [row % 3 for row in range(count)]
    for row, ids in enumerate(expected):
        np.testing.assert_array_equal(split.steps(row), ids)
    assert split.collate([0]).inputs.tolist() == [expected[0].tolist()]
    assert (counts.rows, counts.steps) == (count, sum(map(len, expected)))


@pytest.mark.parametrize("normalize", [True, False])
def test_series_are_what_the_encoder_makes_of_them(part_of, normalize):
    series = make_series(2100)
    train = part_of(series, channel_names=["x", "y", "z"])
    encoder, split, counts = encode(changed(SERIES, normalize=normalize), train)
    assert encoder.channel_names == ["x", "y", "z"]
    values = np.concatenate(series)
    mean, std = (values.mean(axis=0), values.std(axis=0)) if normalize else (0, 1)
    for row, steps in enumerate(series):
        assert split.steps(row).dtype == np.float32
        np.testing.assert_allclose(split.steps(row), (steps - mean) / std, rtol=1e-4, atol=1e-5)
    assert split.lengths.tolist() == list(map(len, series))
    assert counts == Counts(rows=2100, steps=len(values))


def test_values_are_read_from_the_file_and_not_held_in_memory(part_of, cache):
    _, split, _ = encode(TEXTS, part_of(make_texts(2500)))
    (file,) = cache.rglob("*.arrow")
    assert str(file) in Path("/proc/self/maps").read_text()
    assert all(not values.flags.owndata for values in split.values)
    assert split.values[0].dtype == np.uint16  # half the room of int32
    assert len(split.values) == 3  # written 1000 rows at a time


@pytest.mark.slow
@pytest.mark.parametrize("num_words", [2**16 - 1, 2**16])
def test_large_vocabularies_keep_their_ids(part_of, num_words):
    texts = [" ".join(f"w{word}" for word in range(first, num_words, 64)) for first in range(64)]
    config = changed(TEXTS, tokenizer=TokenizerConfig(vocab_size=100_000))
    encoder, split, _ = encode(config, part_of(texts))
    assert encoder.vocab_size == num_words + 1  # and the unknown one
    ids = np.concatenate([split.steps(row) for row in range(64)])
    assert sorted(ids.tolist()) == list(range(1, num_words + 1))


def test_rows_that_were_not_chosen_are_not_encoded(make_rows):
    source = make_rows([f"word{row}" for row in range(9)], ["a"] * 9)
    part = Part(((source, np.array([2, 3, 7]), np.array([1, 0, 1])),))
    encoder, split, _ = encode(TEXTS, part)
    assert encoder.vocabulary().keys() - {"[UNK]"} == {"word2", "word3", "word7"}
    assert [encoder.vocabulary()[f"word{row}"] for row in (2, 3, 7)] == [
        int(split.steps(row)[0]) for row in range(3)
    ]
    assert split.targets.tolist() == [1, 0, 1]


def test_tokens_are_counted(part_of):
    # 9 tokens of 4 words; the training texts have `one` and `two`
    texts = ["one two three", "two", "four one two one two"]
    encoder = fit_encoder(changed(TEXTS, max_length=2), part_of(["one two", "two"]))
    _, counts = encode_part(encoder, part_of(texts), "test")
    assert counts == Counts(rows=3, steps=5, truncated=2, cut=4, unknown=1)
    assert counts.describe("test", changed(TEXTS, max_length=2)) == (
        "test: 5 tokens, 20.00% of them unknown; 2 of 3 texts cut to their head of 2 tokens, "
        "44.4% of all tokens"
    )


def test_the_tail_is_counted_as_well(part_of):
    config = changed(TEXTS, max_length=2, truncation="tail")
    encoder = fit_encoder(config, part_of(["one two", "two"]))
    _, counts = encode_part(encoder, part_of(["four one two", "one four"]), "test")
    assert counts == Counts(rows=2, steps=4, truncated=1, cut=1, unknown=1)
    assert "1 of 2 texts cut to their tail of 2 tokens, 20.0% of" in counts.describe("test", config)


def test_lines_leave_out_what_did_not_happen(part_of):
    _, _, counts = encode(TEXTS, part_of(["one two"] * 1200))
    assert counts.describe("train", TEXTS) == "train: 2,400 tokens, 0.00% of them unknown"
    _, _, counts = encode(SERIES, part_of([np.zeros((3, 2))] * 500))
    assert counts.describe("train", SERIES) == "train: 1,500 time steps"
