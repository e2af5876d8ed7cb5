import socket
from pathlib import Path

import aeon.datasets
import numpy as np
import pytest

from attnlstm.data import load_archive
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
    """An empty cache folder, and a network of which every use is counted and fails."""
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


def message_of(name):
    with pytest.raises(UserError) as caught:
        load_archive(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", CLASSIFICATION_SETS)
def test_bundled_sets_are_what_their_files_say(name, network_uses):
    loaded = load_archive(name)
    assert list(loaded) == ["train", "test"]
    for split, rows in loaded.items():
        series, labels = read_ts(BUNDLED / name / f"{name}_{split.upper()}.ts")
        assert [rows.features["label"].int2str(label) for label in rows["label"]] == labels
        assert len(rows) == len(series)
        for found, expected in zip(rows["series"], series, strict=True):
            np.testing.assert_array_equal(np.float32(found), np.float32(expected))
    assert not network_uses


def test_unequal_lengths_stay():
    lengths = [len(series) for series in load_archive("JapaneseVowels")["test"]["series"]]
    assert (len(lengths), min(lengths), max(lengths)) == (370, 7, 29)


def test_labels_are_sorted_as_numbers_where_all_are_numbers():
    numbers = load_archive("PickupGestureWiimoteZ")["train"].features["label"].names
    assert numbers == [str(number) for number in range(1, 11)]
    words = load_archive("BasicMotions")["train"].features["label"].names
    assert words == ["badminton", "running", "standing", "walking"]


def test_no_folder_is_left_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    load_archive("UnitTest")
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
        assert load_archive("FordA")["train"]["series"][:] == [[[1], [2]], [[1], [2], [3]]]
    assert downloads == ["FordA"]
    assert [path.name for path in cache.iterdir()] == ["FordA"]


@pytest.mark.parametrize("name", ["JapaneseVowel", "japanesevowels", "JapaneseVowels_eqq"])
def test_a_misspelt_name_brings_the_nearest(name, network_uses):
    assert "did you mean JapaneseVowels" in message_of(name)
    assert not network_uses


@pytest.mark.parametrize("name", ["no such thing", "", ".", "../data/GunPoint", "__init__"])
def test_a_name_of_nothing_brings_the_bundled_sets(name, network_uses):
    assert ", ".join(CLASSIFICATION_SETS) in message_of(name)
    assert not network_uses


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Covid3Month", "regression"),
        ("CardanoSentiment", "regression"),
        ("FloodModeling1", "regression"),
        ("Airline", "forecasting"),
        ("m1_yearly_dataset", "forecasting"),
        ("nn5_weekly_dataset", "forecasting"),
        ("Daphnet_S06R02E0", "anomaly detection"),
    ],
)
def test_sets_without_classes_are_refused(name, kind, network_uses):
    message = message_of(name)
    assert kind in message
    assert "JapaneseVowels" in message
    assert not network_uses


def test_a_set_put_into_the_cache_by_hand(cache):
    write_set(cache, "Mine", train=["1,2,3:a", "4,5:b"], test=["6:b"])
    loaded = load_archive("Mine")
    assert loaded["train"]["series"][:] == [[[1], [2], [3]], [[4], [5]]]
    assert loaded["test"]["series"][:] == [[[6]]]
    assert loaded["test"]["label"][:] == [1]


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
    message = message_of("Mine")
    assert fault in message
    assert "the train file of data.name=Mine" in message


def test_a_file_without_rows_is_an_empty_split(cache):
    write_set(cache, "Mine", train=["1,2:a"], test=[])
    assert len(load_archive("Mine")["test"]) == 0
