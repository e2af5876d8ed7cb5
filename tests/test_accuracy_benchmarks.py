"""benchmarks.recipes and benchmarks.accuracy, on sets too small for meaningful accuracies."""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from attnlstm.data.sources.bbc_news import BBCNews
from benchmarks import accuracy, recipes
from benchmarks.runs_file import add_run, read_runs
from benchmarks.sets import BUNDLED, choose_sets, find_sets

pytestmark = pytest.mark.slow

SHORT = "trainer.max_epochs=1 model.lstm.hidden_size=4"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sets with unreadable test parts: 12 series of different lengths, and 8 texts."""
    data = tmp_path / "data"
    (data / "ucr").mkdir(parents=True)
    generator = np.random.default_rng(0)
    series, labels = generator.normal(size=(12, 10, 1)), np.array(["a", "b"] * 6)
    lengths = np.array([10, 9, 8] * 4)
    np.savez(data / "ucr" / "toy_TRAIN.npz", X=series, y=labels, lengths=lengths)
    (data / "ucr" / "toy_TEST.npz").write_bytes(b"must not be read")
    (data / "words").mkdir()
    texts = [f"text {row} is {('fine', 'dull')[row % 2]}" for row in range(8)]
    table = pyarrow.table({"text": texts, "label": ["good", "bad"] * 4})
    pyarrow.parquet.write_table(table, data / "words" / "train.parquet")
    (data / "words" / "test.parquet").write_bytes(b"must not be read")
    return data


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a benchmark's command line in this process and return its exit code."""

    def run_main(module: Any, *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            module.main()
        return stop.value.code

    return run_main


def keys(path: Path) -> list[tuple]:
    return [(r["set"], r["variant"], r["seed"], r["fold"]) for r in read_runs(path)]


def test_recipes_add_each_run_once_and_read_only_training_rows(
    run: Callable,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "recipes.json"
    given = ["--output", output, "--data", folder, "--folds", 3, "--most-folds", 1]
    variants = ["--variants", "--variant", "short", SHORT]
    raw = ["--variant", "raw", f"{SHORT} model/stem=none"]
    assert run(recipes, *given, *variants, "--sets", "toy", "words") == 0
    assert keys(output) == [("toy", "short", 0, 0), ("words", "short", 0, 0)]
    series, texts = read_runs(output)
    assert (series["trained_rows"], series["held_out_rows"]) == (8, 4)
    assert texts["trained_rows"] + texts["held_out_rows"] == 8
    assert 0 <= series["accuracy"] <= 1
    assert series["overrides"] == SHORT.split()
    assert str(tmp_path) not in output.read_text()

    measured = []
    measure = recipes.measure
    monkeypatch.setattr(
        recipes, "measure", lambda *given: measured.append(given[1]) or measure(*given)
    )
    assert run(recipes, *given, *variants, *raw, "--sets", "toy") == 0
    assert measured == [("trainer.max_epochs=1", "model.lstm.hidden_size=4", "model/stem=none")]
    assert keys(output)[2:] == [("toy", "raw", 0, 0)]

    capsys.readouterr()
    assert run(recipes, "--output", output, "--table") == 0
    printed = capsys.readouterr().out
    assert len(measured) == 1
    lines = {line.split()[1]: line for line in printed.splitlines() if line.startswith("│ ")}
    assert {"toy", "words"} <= lines.keys()
    expected = [f"{r['accuracy']:.3f}" for r in read_runs(output) if r["set"] == "toy"]
    assert [cell.strip() for cell in lines["toy"].split("│")[2:-1]] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variants", "--variant", "short", "trainer.max_epochs=2"], "with other overrides"),
        (["--variants", "--variant", "short", SHORT, "--folds", "4"], "runs of 3 folds"),
        (["--variants", "wider"], "unknown name wider, choose from default"),
        (["--variant", "default", SHORT], "this name is taken"),
        (["--variants", "--variant", "new", "model.lstm.hiden_size=4"], "hidden_size"),
        (["--sets", "toys"], "unknown set toys, choose from ACSF1"),
    ],
)
def test_recipes_reject_incomparable_runs_before_anything_runs(
    run: Callable,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(recipes, "measure", lambda *_: pytest.fail("something was run"))
    output = tmp_path / "recipes.json"
    add_run(output, make_run("toy", "short", 0.5) | {"overrides": SHORT.split(), "folds": 3})
    given = ["--output", output, "--data", folder, "--sets", "toy", "--folds", 3]
    assert run(recipes, *given, *arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_failing_run_is_reported_and_the_others_continue(
    run: Callable, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "recipes.json"
    given = ["--output", output, "--data", folder, "--sets", "toy", "--most-folds", 1]
    bad = ["--variant", "bad", "data.validation=missing.npz"]
    code = run(recipes, *given, "--variants", *bad, "--variant", "short", SHORT)
    assert code == 1
    assert keys(output) == [("toy", "short", 0, 0)]
    assert "toy, bad, seed 0, fold 0 failed: " in caplog.text
    assert "missing.npz" in caplog.text


@pytest.mark.parametrize("kind", ["series", "text"])
def test_every_variant_consists_of_overrides_of_train(kind: str, folder: Path) -> None:
    (chosen,) = choose_sets(folder, ["toy" if kind == "series" else "words"])
    plain = recipes.configure(chosen, (), seed=0)
    by_key = defaultdict(list)
    for variant in recipes.VARIANTS.values():
        for override in variant.overrides if kind in variant.kinds else ():
            by_key[override.partition("=")[0]].append(override)
    for together in zip_longest(*by_key.values()):  # composing is slow
        overrides = [override for override in together if override is not None]
        assert recipes.configure(chosen, overrides, seed=0) != plain


def test_folds_are_stratified_and_keep_identical_rows_together(tmp_path: Path) -> None:
    series = np.random.default_rng(0).normal(size=(20, 5, 1))
    series[1] = series[0]
    labels = np.array(["a"] * 10 + ["b"] * 9 + ["once"])
    np.savez(tmp_path / "toy_TRAIN.npz", X=series, y=labels)
    (chosen,) = choose_sets(tmp_path, ["toy"])
    rows = recipes.TrainingRows(chosen)
    folds = rows.deal(3, seed=0)
    assert folds[0] == folds[1]
    assert folds[19] == recipes.NEVER_HELD_OUT  # otherwise no model would know its class
    for members in (slice(0, 10), slice(10, 19)):
        counts = Counter(folds[members].tolist())
        assert counts.keys() == {0, 1, 2}
        assert max(counts.values()) - min(counts.values()) <= 2
    np.testing.assert_array_equal(folds, rows.deal(3, seed=0))
    assert (folds != rows.deal(3, seed=1)).any()


def test_only_held_out_rows_are_used_for_the_test(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def look(config: Any, run_dir: Path) -> Any:
        for part in ("train", "test"):
            with np.load(getattr(config.data, part)) as arrays:
                seen[part] = {name: arrays[name] for name in arrays}
        raise StopIteration

    monkeypatch.setattr(recipes, "train", look)
    (chosen,) = choose_sets(folder, ["toy"])
    rows = recipes.TrainingRows(chosen)
    with pytest.raises(StopIteration):
        recipes.measure(rows, (), 3, 1, seed=0)
    with np.load(folder / "ucr" / "toy_TRAIN.npz") as arrays:
        X, y, lengths = arrays["X"], arrays["y"], arrays["lengths"]
    held_out = rows.deal(3, seed=0) == 1
    for part, mask in (("train", ~held_out), ("test", held_out)):
        np.testing.assert_array_equal(seen[part]["y"], y[mask])
        np.testing.assert_array_equal(seen[part]["lengths"], lengths[mask])
        for found, expected, length in zip(seen[part]["X"], X[mask], lengths[mask], strict=True):
            np.testing.assert_array_equal(found[:length], expected[:length])


def test_training_parts_of_bundled_sets_have_no_test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    import aeon.datasets

    splits = []
    load = aeon.datasets.load_classification

    def spy(name: str, split: str | None = None, **options: Any) -> Any:
        splits.append(split)
        return load(name, split=split, **options)

    monkeypatch.setattr(aeon.datasets, "load_classification", spy)
    sets = find_sets(None)
    assert sets.keys() == {*BUNDLED, "bbc_news"}
    assert len(list(sets["ArrowHead"].open_train())) == 36
    assert splits == ["train"]
    articles = {row.file for row in sets["bbc_news"].open_train()}
    assert articles
    assert articles.isdisjoint(row.file for row in BBCNews("test"))


def make_run(name: str, variant: str, reached: float, fold: int = 0) -> dict:
    return {
        **{"set": name, "kind": "series", "variant": variant, "overrides": [], "seed": 0},
        **{"fold": fold, "folds": 4, "commit": "abc", "accuracy": reached, "seconds": 10 * reached},
    }


def test_the_table_of_recipes_compares_only_sets_with_all_runs() -> None:
    runs = [
        *(make_run("A", "wide", value, fold) for fold, value in enumerate((0.9, 0.8))),
        *(make_run("A", "default", value, fold) for fold, value in enumerate((0.5, 0.7))),
        *(make_run("B", variant, value) for variant, value in (("default", 0.4), ("wide", 0.6))),
        *(make_run("C", "default", 1.0, fold) for fold in range(2)),
        make_run("C", "wide", 0.0),
    ]
    columns, rows = recipes.tabulate(runs)
    assert columns == ["set", "default", "wide"]
    assert rows == [
        ["A", "0.600", "0.850"],
        ["B", "0.400", "0.600"],
        ["C", "1.000", "0.000 (1)"],
        ["mean of 2", "0.500", "0.725"],
        ["against default", "", f"+0.225 ± {stdev([0.25, 0.2]) / 2**0.5:.3f}"],
        ["seconds", f"{mean([5, 7, 4, 10, 10]):.0f}", f"{mean([9, 8, 6, 0]):.0f}"],
    ]


def test_accuracy_runs_train_in_its_own_process(
    run: Callable, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = folder / "words" / "train.parquet"
    (folder / "words" / "test.parquet").write_bytes(train.read_bytes())
    output = tmp_path / "accuracy.json"
    given = ["--output", output, "--data", folder, "--sets", "words", "--seeds", 3]
    short = [*SHORT.split(), "data.batch_size=7", "validation=holdout", "refit=true"]
    assert run(accuracy, *given, "--", *short, "callbacks.figures=null") == 0
    (found,) = read_runs(output)
    assert (found["classes"], found["train_rows"], found["test_rows"]) == (2, 8, 8)
    assert found["steps"] == 1 + 2  # 1 step on 7 texts, and 2 in the refit on all 8
    assert found["baselines"] == {"TF-IDF + logistic regression": 1.0, "majority class": 0.5}
    assert found["peak_bytes"] > 10**8  # torch alone needs more
    assert str(tmp_path) not in output.read_text()

    capsys.readouterr()
    assert run(accuracy, "--output", output, "--markdown") == 0
    printed = capsys.readouterr().out.splitlines()
    assert f"| words | 2 | 8 / 8 | 3 | {found['accuracy']:.4f} |" in printed[-1]
    assert printed[-2].count("|") == printed[-1].count("|")


def make_result(name: str, seed: int, reached: float, baseline: float) -> dict:
    return {
        **{"set": name, "kind": "series", "overrides": [], "seed": seed, "commit": "abc"},
        **{"processor": "some", "classes": 9, "train_rows": 270, "test_rows": 370, "steps": 600},
        **{"baselines": {"MiniRocket + ridge": baseline, "majority class": 0.25}},
        **{"accuracy": reached, "seconds": 10.0 * seed, "peak_bytes": (1 + seed) * 10**9},
    }


def test_accuracy_continues_its_file_and_puts_means_at_the_bottom(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    output = tmp_path / "accuracy.json"
    for result in (
        make_result("JapaneseVowels", 0, 0.98, 0.99),
        make_result("JapaneseVowels", 1, 0.96, 0.99),
        make_result("GunPoint", 1, 0.80, 0.95),
    ):
        add_run(output, result)
    measured = []

    def measure(chosen: Any, seed: int, overrides: Any) -> dict:
        measured.append((chosen.name, seed))
        made = make_result(chosen.name, seed, 0.90, 0.95)
        return {
            name: made[name] for name in ("accuracy", "baselines", "steps", "seconds", "peak_bytes")
        }

    described = make_result("GunPoint", 0, 0, 0.95)
    kept = {name: described[name] for name in ("classes", "train_rows", "test_rows")}
    monkeypatch.setattr(accuracy, "measure", measure)
    monkeypatch.setattr(accuracy, "describe_rows", lambda chosen: kept)
    sets = ["--sets", "JapaneseVowels", "GunPoint", "--seeds", 0, 1]
    assert run(accuracy, "--output", output, *sets) == 0
    assert measured == [("GunPoint", 0)]
    assert "mean of 2 series" in capsys.readouterr().out
    vowels, gun, means = accuracy.tabulate(read_runs(output))
    assert vowels == [
        *("JapaneseVowels", "9", "270 / 370", "600", f"0.9700 ± {stdev([0.98, 0.96]):.4f}"),
        *("0.9800, 0.9600", "0.9900", "0.2500", accuracy.PUBLISHED["JapaneseVowels"], "5", "2.00"),
    ]
    assert gun[4:7] == [f"0.8500 ± {stdev([0.9, 0.8]):.4f}", "0.9000, 0.8000", "0.9500"]
    assert means[4:8] == ["0.9100", "", "0.9700", "0.2500"]
    assert {len(row) for row in (vowels, gun, means)} == {len(accuracy.COLUMNS)}
    assert run(accuracy, "--output", output, *sets, "--", "refit=true") == 2
    assert "has runs with the overrides (none)" in capsys.readouterr().err


def test_accuracy_reports_which_run_has_failed(
    run: Callable, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "accuracy.json"
    given = ["--output", output, "--data", folder, "--sets", "toy", "--seeds", 0]
    assert run(accuracy, *given, "--", "data.batch_size=0") == 1
    assert "toy, seed 0 failed: error: data.batch_size=0" in caplog.text
    assert not output.exists()


def test_a_file_of_another_kind_is_not_overwritten(
    run: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "other.json"
    output.write_text(json.dumps([1, 2]))
    assert run(accuracy, "--output", output, "--table") == 2
    assert "contains no runs" in capsys.readouterr().err
    assert json.loads(output.read_text()) == [1, 2]
