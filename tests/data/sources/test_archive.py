import socket
from pathlib import Path

import aeon.datasets
import numpy as np
import pytest

from attnlstm.data.sources.archive import ArchiveRows
from attnlstm.data.targets import sort_labels
from attnlstm.errors import UserError

BUNDLED = Path(aeon.datasets.__file__).parent / "data"
CLASSIFICATION_SETS = [
    "ACSF1",
    "ArrowHead",
    "BasicMotions",
    "Covid3Month_disc",
    "GunPoint",
    "ItalyPowerDemand",
    "JapaneseVowels",
    "OSULeaf",
    "PickupGestureWiimoteZ",
    "UnitTest",
]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and a network whose every use is counted and fails."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "attnlstm" / "archive"


@pytest.fixture(autouse=True)
def network_uses(monkeypatch):
    uses = []

    def refuse(*arguments, **options):
        uses.append(arguments)
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return uses


def read_ts(path):
    """An independent reader: rows of `channel:channel:label`, each channel comma separated."""
    lines = path.read_text().lower().split("@data")[1].split()
    rows = [line.split(":") for line in lines]
    series = [np.array([channel.split(",") for channel in row[:-1]], dtype=float).T for row in rows]
    return series, [row[-1] for row in rows]


def write_set(cache, name, train, test=None, header="@univariate true\n@equalLength false"):
    (cache / name).mkdir(parents=True)
    for split, rows in (("TRAIN", train), ("TEST", train if test is None else test)):
        text = f"@problemName {name}\n{header}\n@classLabel true a b\n@data\n" + "\n".join(rows)
        (cache / name / f"{name}_{split}.ts").write_text(text)


def series_of(source):
    return [row.value.tolist() for row in source]


def message_of(name, split="train"):
    with pytest.raises(UserError) as caught:
        ArchiveRows(name, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", CLASSIFICATION_SETS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_bundled_sets_are_what_their_files_say(name, split, network_uses):
    rows = list(ArchiveRows(name, split))
    series, labels = read_ts(BUNDLED / name / f"{name}_{split.upper()}.ts")
    assert [row.label for row in rows] == labels
    assert [row.number for row in rows] == list(range(len(series)))
    assert {row.file for row in rows} == {f"the {split} split of {name}"}
    for row, expected in zip(rows, series, strict=True):
        assert row.value.dtype == np.float32
        assert row.problem is None
        np.testing.assert_array_equal(row.value, np.float32(expected))
    assert not network_uses


def test_unequal_lengths_stay():
    lengths = [len(row.value) for row in ArchiveRows("JapaneseVowels", "test")]
    assert (len(lengths), min(lengths), max(lengths)) == (370, 7, 29)


def test_labels_are_sorted_as_numbers_where_all_are_numbers():
    numbers = {row.label for row in ArchiveRows("PickupGestureWiimoteZ", "train")}
    assert sort_labels(numbers) == [str(number) for number in range(1, 11)]
    words = {row.label for row in ArchiveRows("BasicMotions", "train")}
    assert sort_labels(words) == ["badminton", "running", "standing", "walking"]


def test_no_folder_is_left_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    ArchiveRows("UnitTest", "train")
    assert not list(tmp_path.iterdir())


def test_a_set_that_cannot_be_downloaded(cache, network_uses):
    message = message_of("FordA")
    assert "data.name=FordA" in message
    assert "FordA_TRAIN.ts" in message
    assert str(cache / "FordA") in message
    assert "JapaneseVowels" in message
    assert network_uses
    assert not list(cache.iterdir())


def test_a_downloaded_set_is_kept(cache, monkeypatch):
    real, downloads = aeon.datasets.load_classification, []

    def downloading(name, split=None, extract_path=None, return_metadata=False):
        if not (Path(extract_path) / name).exists():
            downloads.append(name)
            write_set(Path(extract_path), name, ["1,2:a", "1,2,3:b"])
        return real(name, split, extract_path, return_metadata)

    monkeypatch.setattr(aeon.datasets, "load_classification", downloading)
    for _ in range(2):
        assert series_of(ArchiveRows("FordA", "train")) == [[[1], [2]], [[1], [2], [3]]]
    assert downloads == ["FordA"]
    assert [path.name for path in cache.iterdir()] == ["FordA"]


@pytest.mark.parametrize("name", ["JapaneseVowel", "japanesevowels", "JapaneseVowels_eqq"])
def test_a_misspelt_name_brings_the_nearest(name, network_uses):
    assert "did you mean JapaneseVowels" in message_of(name)
    assert not network_uses


@pytest.mark.parametrize("name", ["no such thing", "", ".", "../data/GunPoint", "__init__"])
def test_a_name_of_nothing_brings_the_bundled_sets(name, network_uses):
    message = message_of(name)
    assert all(bundled in message for bundled in (*CLASSIFICATION_SETS, "Covid3Month"))
    assert not network_uses


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Airline", "forecasting"),
        ("m1_yearly_dataset", "forecasting"),
        ("nn5_weekly_dataset", "forecasting"),
        ("Daphnet_S06R02E0", "anomaly detection"),
    ],
)
def test_sets_for_other_purposes_are_refused(name, kind, network_uses):
    message = message_of(name)
    assert kind in message
    assert "JapaneseVowels" in message
    assert not network_uses


@pytest.mark.parametrize("name", ["Covid3Month", "CardanoSentiment"])
def test_regression_sets_are_those_of_aeon(name, network_uses):
    source = ArchiveRows(name, "test")
    X, y = aeon.datasets.load_regression(name, split="test")
    assert source.task == "regression"
    for row, series, number in zip(source, X, y, strict=True):
        np.testing.assert_allclose(row.value, series.T, rtol=1e-6)
        assert float(row.label) == number
    assert not network_uses


def test_a_set_put_into_the_cache_by_hand(cache):
    write_set(cache, "Mine", train=["1,2,3:a", "4,5:b"], test=["6:b"])
    train, test = (ArchiveRows("Mine", split) for split in ("train", "test"))
    assert series_of(train) == [[[1], [2], [3]], [[4], [5]]]
    assert series_of(test) == [[[6]]]
    assert [row.label for row in (*train, *test)] == ["a", "b", "b"]


def test_the_fingerprint_is_that_of_the_content(cache):
    rows = ["1,2,3:a", "4,5:b"]
    fingerprints = []
    for number, content in enumerate((rows, rows, ["1,2,4:a", "4,5:b"], ["1,2,3:b", "4,5:b"])):
        write_set(cache, f"Mine{number}", train=content)
        fingerprints.append(ArchiveRows(f"Mine{number}", "train").fingerprint())
    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints)) == 3


@pytest.mark.parametrize(
    ("rows", "header", "fault"),
    [
        (["1,2:a", "1,2:c"], "@univariate true", "declare (c)"),
        (["1,2:a", "1,x:b"], "@univariate true", "could not convert"),
        (["1,2:3,4:a", "1,2:b"], "@univariate false", "dimensions"),
        (["1,2:a", "1,2,3:b"], "@univariate true\n@equalLength true", "different number"),
        (["(0,1.0),(1,-2.0):a"], "@univariate true\n@timeStamps true", "time stamps"),
        (["1,2:0.5"], "@univariate true\n@targetLabel true", "regression"),
    ],
)
def test_faulty_files_are_refused(cache, rows, header, fault):
    write_set(cache, "Mine", train=rows, header=header)
    for split in ("train", "test"):
        message = message_of("Mine", split)
        assert fault in message
        assert f"the {split} file of data.name=Mine" in message


def test_a_file_without_rows_is_an_empty_split(cache):
    write_set(cache, "Mine", train=["1,2:a"], test=[])
    assert list(ArchiveRows("Mine", "test")) == []
