"""Encoded rows in the cache: correct, computed once, and safe from interruptions."""

import json
import subprocess
import sys
from collections import Counter as Tally
from pathlib import Path

import datasets
import numpy as np
import pytest

from attnlstm.config.data import TokenizerConfig
from attnlstm.data.encoders import encoding
from attnlstm.data.encoders.encoding import Counts, encode_part, encoder_from_dict, fit_encoder
from attnlstm.data.encoders.series import SeriesEncoder
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.data.sources.series_files import SeriesFilesSource
from attnlstm.data.sources.text_files import TextFilesSource
from attnlstm.data.splits import Part
from attnlstm.errors import UserError

pytestmark = pytest.mark.slow

TEXTS = TextFilesSource()
SERIES = SeriesFilesSource()


def changed(config, **values):
    return config.model_copy(update=values)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder / "attnlstm"


@pytest.fixture(autouse=True)
def work(monkeypatch):
    """The numbers of rows encoded and of encoders fitted so far."""
    done = Tally()
    for place, name in ((encoding, "train_tokenizer"), (SeriesEncoder, "fit")):
        monkeypatch.setattr(place, name, counting(getattr(place, name), done))
    for cls in (TextEncoder, SeriesEncoder):
        count_rows(monkeypatch, cls, done)
    return done


def counting(fit, done):
    def counting_fit(*arguments):
        done["fit"] += 1
        return fit(*arguments)

    return counting_fit


def count_rows(monkeypatch, cls, done):
    encode = cls.encode

    def counting_encode(self, values):
        done["rows"] += len(values)
        return encode(self, values)

    monkeypatch.setattr(cls, "encode", counting_encode)


def make_texts(count, seed=0):
    generator = np.random.default_rng(seed)
    words = [f"word{number}" for number in range(50)]
    return [" ".join(generator.choice(words, generator.integers(1, 12))) for _ in range(count)]


def make_series(count, channels=3):
    generator = np.random.default_rng(0)
    return [generator.normal(5, 3, (generator.integers(1, 9), channels)) for _ in range(count)]


@pytest.fixture
def part_of(make_rows):
    """Make a part of all these values, with the classes 0, 1, 2, 0, ..."""

    def make(values, **options):
        targets = np.arange(len(values)) % 3
        source = make_rows(values, [str(target) for target in targets], **options)
        return Part(((source, np.arange(len(values)), targets),))

    return make


def encode(config, train, part=None):
    """The encoder, and a part that it has encoded."""
    encoder = fit_encoder(config, train)
    split, counts = encode_part(encoder, train if part is None else part, "train")
    return encoder, split, counts


# ---------------------------------------------------------------------------------- what it holds


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


# -------------------------------------------------------------------------------------- only once


def test_the_same_rows_and_settings_are_encoded_once(part_of, cache, work):
    texts = make_texts(50)
    first, split, counts = encode(TEXTS, part_of(texts))
    assert work == {"fit": 1, "rows": 50}
    files = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.suffix}
    again, split_again, counts_again = encode(TEXTS, part_of(texts))
    assert work == {"fit": 1, "rows": 50}
    assert files == {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.suffix}
    assert first.to_dict() == again.to_dict()
    assert counts == counts_again
    assert all(split.steps(row).tolist() == split_again.steps(row).tolist() for row in range(50))


@pytest.mark.parametrize("kind", ["word", "bpe", "unigram", "character"])
def test_every_tokenizer_is_trained_once(part_of, work, kind):
    config = changed(TEXTS, tokenizer=TokenizerConfig(kind=kind, vocab_size=300))
    first, again = (encode(config, part_of(make_texts(50)))[0] for _ in range(2))
    assert work == {"fit": 1, "rows": 50}
    assert first.to_dict() == again.to_dict()


def test_all_parts_use_the_encoder_of_the_training_rows(part_of, work):
    train, test = part_of(["one two", "two"]), part_of(["three two", "one"])
    for _ in range(2):
        encoder, split, counts = encode(TEXTS, train, test)
        assert split.steps(0).tolist() == [encoder.unknown_id, encoder.vocabulary()["two"]]
        assert counts.unknown == 1
    assert work == {"fit": 1, "rows": 2}


def test_an_encoder_from_a_checkpoint_shares_the_encoded_rows(part_of, work):
    test = part_of(["two three"])
    trained = encode(TEXTS, part_of(["one two", "two"]), test)[0]
    assert work == {"fit": 1, "rows": 1}
    for _ in range(2):
        encoder = encoder_from_dict(json.loads(json.dumps(trained.to_dict())))
        split, _ = encode_part(encoder, test, "test")
        assert split.steps(0).tolist() == [encoder.vocabulary()["two"], encoder.unknown_id]
    assert work == {"fit": 1, "rows": 1}


ORIGINAL = TEXTS
TOKENIZER = TokenizerConfig()


@pytest.mark.parametrize(
    "config",
    [
        changed(ORIGINAL, max_length=3),
        changed(ORIGINAL, max_length=3, truncation="tail"),
        *(
            changed(ORIGINAL, tokenizer=tokenizer)
            for tokenizer in (
                changed(TOKENIZER, kind="character"),
                changed(TOKENIZER, vocab_size=20),
                changed(TOKENIZER, min_frequency=3),
                changed(TOKENIZER, lowercase=False),
            )
        ),
    ],
    ids=lambda config: f"{config.max_length} {config.truncation} {config.tokenizer}",
)
def test_other_settings_are_encoded_again(part_of, work, config):
    texts = ["Word word one two three four", *make_texts(20)]
    encode(ORIGINAL, part_of(texts))
    encode(changed(ORIGINAL, max_length=3), part_of(texts[1:]))
    work.clear()
    encoder, split, _ = encode(config, part_of(texts))
    assert work == {"fit": 1, "rows": 21}
    for row, ids in enumerate(encoder.encode(texts).ids):
        np.testing.assert_array_equal(split.steps(row), ids)


def test_other_rows_labels_and_splits_are_encoded_again(part_of, make_rows, work):
    texts = make_texts(20)
    source = make_rows(texts, ["a"] * 20)
    rows, targets = np.arange(10), np.arange(10) % 2
    parts = [
        Part(((source, rows, targets),)),
        Part(((source, rows + 1, targets),)),  # another split
        Part(((source, rows, 1 - targets),)),
        Part(((make_rows([*texts[:9], "changed", *texts[10:]], ["a"] * 20), rows, targets),)),
        Part(((source, rows, targets), (source, rows + 10, targets))),
    ]
    for number, part in enumerate(parts, start=1):
        encoder, split, _ = encode(TEXTS, part)
        assert work["fit"] == number
        expected = encoder.encode([row.value for row in part]).ids
        assert [split.steps(row).tolist() for row in range(len(part))] == [
            ids.tolist() for ids in expected
        ]
        assert split.targets.tolist() == part.targets.tolist()


def test_other_series_settings_are_encoded_again(part_of, work):
    series = make_series(10)
    for number, (config, names) in enumerate(
        [(SERIES, None), (changed(SERIES, normalize=False), None), (SERIES, ["x", "y", "z"])],
        start=1,
    ):
        encoder, _, _ = encode(config, part_of(series, channel_names=names))
        assert encoder.channel_names == names
        assert work["fit"] == number
    encode(changed(SERIES, batch_size=3, noise=0.5), part_of(series))  # change no number
    assert work["fit"] == 3


def test_a_changed_tokenizer_file_is_seen(part_of, tmp_path, work):
    path = tmp_path / "tokenizer.json"
    texts = part_of(["one two", "two"])
    config = changed(TEXTS, tokenizer=TokenizerConfig(file=str(path)))
    for trained_on, ids in (("one two", [1, 2]), ("two one two", [2, 1]), ("two", [0, 1])):
        trained = encode(TEXTS, part_of([trained_on]))[0]
        path.write_text(trained.to_dict()["tokenizer"])
        work.clear()
        _, split, _ = encode(config, texts)
        assert split.steps(0).tolist() == ids
        assert work == {"rows": 2}


# -------------------------------------------------------------------------------- what goes wrong


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 1  # of the targets in a file of rows
    path.write_bytes(content)


DAMAGES = {
    "a bit": flip,
    "truncated": truncate,
    "empty": lambda path: path.write_bytes(b""),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe damaged"),
    "null": lambda path: path.write_text("null"),
    "list": lambda path: path.write_text("[1, 2]"),
    "other keys": lambda path: path.write_text('{"kind": "text", "colour": "red"}'),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("pattern", ["encoder.json", "*.arrow", "[!e]*.json"])
@pytest.mark.parametrize("config", [TEXTS, SERIES], ids=["texts", "series"])
def test_damaged_files_are_replaced(part_of, cache, damage, pattern, config, caplog):
    values = make_texts(30) if config is TEXTS else make_series(30)
    first, split, counts = encode(config, part_of(values))
    steps = [split.steps(row).tolist() for row in range(30)]
    del split
    (path,) = cache.rglob(pattern)
    DAMAGES[damage](path)
    again, split, counts_again = encode(config, part_of(values))
    assert again.to_dict() == first.to_dict()
    assert counts_again == counts
    assert [split.steps(row).tolist() for row in range(30)] == steps
    said = [line for line in caplog.messages if line.endswith("are damaged and are made again")]
    assert len(said) == (damage != "gone" or pattern == "*.arrow")


def test_a_file_with_too_few_rows_is_replaced(part_of, cache):
    encode(SERIES, part_of(make_series(5)))
    (few,) = cache.rglob("*.arrow")
    content = few.read_bytes()
    values = make_series(9)
    _, split, _ = encode(SERIES, part_of(values))
    (path,) = set(cache.rglob("*.arrow")) - {few}
    del split
    path.write_bytes(content)
    assert len(encode(SERIES, part_of(values))[1]) == 9


def test_an_interruption_leaves_no_incomplete_file(part_of, cache, monkeypatch):
    texts = make_texts(1500)
    encode_texts = TextEncoder.encode

    def interrupted(self, values):
        if len(values) < 1000:  # the second time
            raise KeyboardInterrupt
        return encode_texts(self, values)

    with monkeypatch.context() as patch:
        patch.setattr(TextEncoder, "encode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            encode(TEXTS, part_of(texts))
    assert {path.name for path in cache.rglob("*") if path.is_file()} <= {"encoder.json", "lock"}
    assert len(encode(TEXTS, part_of(texts))[1]) == 1500


def test_a_cache_that_is_a_file(part_of, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file")
    with pytest.raises(UserError, match="set HF_DATASETS_CACHE to a folder that can be written"):
        encode(TEXTS, part_of(["one", "two"]))


@pytest.mark.parametrize("pattern", ["lock", "encoder.json", "*.arrow"])
def test_a_folder_in_the_way(part_of, cache, pattern):
    part = part_of(["one", "two"])
    encode(TEXTS, part)
    place = next(cache.rglob(pattern))
    place.unlink()
    place.mkdir()
    names = {path.name for path in cache.rglob("*")}
    with pytest.raises(UserError, match="cannot be written to") as refusal:
        encode(TEXTS, part)
    assert str(place.parent) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert {path.name for path in cache.rglob("*")} == names


def test_series_of_other_channels_are_refused(part_of, cache):
    encoder = fit_encoder(SERIES, part_of(make_series(5, channels=3)))
    with pytest.raises(UserError, match="2 channels, the model was trained on 3"):
        encode_part(encoder, part_of(make_series(5, channels=2)), "test")
    assert not list(cache.rglob("*.arrow*"))


PROGRAM = """
import sys
from pathlib import Path

import datasets

from attnlstm.data.encoders import encoding
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.data.sources.source import open_sources
from attnlstm.data.sources.text_files import TextFilesSource
from attnlstm.data.splits import split_sources

datasets.config.HF_DATASETS_CACHE = Path(sys.argv[1])
config = TextFilesSource(train=sys.argv[2])
part = split_sources(open_sources(config), config, 0).parts["train"]
done = {"fit": 0, "encode": 0}
fit, encode = encoding.train_tokenizer, TextEncoder.encode


def counting_fit(*arguments):
    done["fit"] += 1
    return fit(*arguments)


def counting_encode(self, values):
    done["encode"] += len(values)
    return encode(self, values)


encoding.train_tokenizer, TextEncoder.encode = counting_fit, counting_encode
print("ready", flush=True)
sys.stdin.readline()
encoder = encoding.fit_encoder(config, part)
split, counts = encoding.encode_part(encoder, part, "train")
print(done["fit"], done["encode"], len(split), counts.steps, sum(map(len, split.values)))
"""


def test_of_two_processes_one_encodes_and_the_other_waits(tmp_path):
    path = tmp_path / "train.csv"
    texts = make_texts(8000)
    lines = [f"{row} {text},{row % 2}" for row, text in enumerate(texts)]
    path.write_text("\n".join(["text,label", *lines]) + "\n")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "shared"), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    found = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(row[:2] for row in found) == [["0", "0"], ["1", found[0][2]]]
    assert found[0][2:] == found[1][2:]
    assert found[0][3] == found[0][4]
    assert not [path for path in tmp_path.rglob("*") if path.suffix.strip(".").isdigit()]


# ---------------------------------------------------------------------------- what the log says


def test_tokens_are_counted(part_of):
    # 9 tokens of 4 words, of which the training texts have `one` and `two`
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
