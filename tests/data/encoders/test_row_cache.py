"""The cache of encoded rows: filled once, replaced when damaged, and safe from interruptions."""

import json
import multiprocessing
from collections import Counter as Tally

import datasets
import numpy as np
import pytest

from attnlstm.config.data import TokenizerConfig
from attnlstm.data.encoders import encoding
from attnlstm.data.encoders.encoding import encode_part, encoder_from_dict, fit_encoder
from attnlstm.data.encoders.series import SeriesEncoder
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.data.parts import Part
from attnlstm.errors import UserError
from tests.data.encoders.encoded import SERIES, TEXTS, changed, encode, make_series, make_texts

pytestmark = pytest.mark.slow


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


TOKENIZER = TokenizerConfig()


@pytest.mark.parametrize(
    "config",
    [
        changed(TEXTS, max_length=3),
        changed(TEXTS, max_length=3, truncation="tail"),
        *(
            changed(TEXTS, tokenizer=tokenizer)
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
    encode(TEXTS, part_of(texts))
    encode(changed(TEXTS, max_length=3), part_of(texts[1:]))
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


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 1
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


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_of_two_processes_one_encodes_and_the_other_waits(part_of, cache, work):
    part = part_of(make_texts(8000))
    context = multiprocessing.get_context("fork")
    both_ready, results = context.Barrier(2), context.SimpleQueue()

    def encode_and_count():
        both_ready.wait()
        _, split, counts = encode(TEXTS, part)
        results.put(
            (work["fit"], work["rows"], len(split), counts.steps, sum(split.lengths.tolist()))
        )

    processes = [context.Process(target=encode_and_count) for _ in range(2)]
    for process in processes:
        process.start()
    waited, encoded = sorted(results.get() for _ in processes)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert waited[:3] == (0, 0, 8000)
    assert encoded[:3] == (1, 8000, 8000)
    assert waited[3] == waited[4] == encoded[3] == encoded[4]
    assert not [path for path in cache.rglob("*") if path.suffix.strip(".").isdigit()]
