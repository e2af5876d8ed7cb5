import numpy as np
import pytest

from attnlstm.data import SeriesEncoder, load_splits
from attnlstm.errors import UserError


def test_training_rows_are_shared_and_test_rows_kept():
    splits = load_splits("archive", "JapaneseVowels", val_fraction=0.2, seed=0)
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 216,
        "validation": 54,
        "test": 370,
    }
    assert np.bincount(splits["validation"]["label"]).tolist() == [6] * 9
    assert splits["test"].features == splits["train"].features == splits["validation"].features


def test_the_seed_decides():
    def train(seed):
        return load_splits("archive", "ItalyPowerDemand", 0.2, seed)["train"]["series"][:]

    assert train(1) == train(1)
    assert train(1) != train(2)


def test_statistics_come_from_the_remaining_training_rows():
    train = load_splits("archive", "GunPoint", val_fraction=0.5, seed=0)["train"]
    steps = np.concatenate([np.array(series, dtype=np.float64) for series in train["series"]])
    np.testing.assert_allclose(SeriesEncoder.fit(train).mean, steps.mean(axis=0), rtol=1e-9)


def test_an_unknown_source():
    with pytest.raises(UserError, match=r"data.source=archives is unknown: use archive"):
        load_splits("archives", "GunPoint", 0.2, 0)


def test_faults_are_found_before_the_split(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "attnlstm" / "archive" / "Mine"
    folder.mkdir(parents=True)
    header = "@univariate false\n@equalLength false\n@missing true\n@classLabel true a b\n@data\n"
    train = ["1,2:1,2:a", "1,?,3:1,2,3:b", "1:1:a", "1:NaN:b"]
    (folder / "Mine_TRAIN.ts").write_text(header + "\n".join(train))
    (folder / "Mine_TEST.ts").write_text(header + "1,2:1,inf:a")
    with pytest.raises(UserError) as caught:
        load_splits("archive", "Mine", 0.5, 0)
    message = str(caught.value)
    assert "'train' has missing values (NaN) in 2 rows: row 1 (channel 0), row 3 (channel 1)" in (
        message
    )
    assert "'test' has infinite values in 1 row: row 0 (channel 1)" in message
