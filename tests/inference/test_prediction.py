"""Prediction: the same results in every format, one record per row."""

import csv
import html
import io
import json
import random
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from attnlstm.checkpoint.load import load_checkpoint
from attnlstm.cli.composition import compose_config
from attnlstm.config.schema import EvaluateConfig, PredictConfig
from attnlstm.errors import UserError
from attnlstm.inference.evaluation import evaluate
from attnlstm.inference.prediction import predict
from attnlstm.nn.backends import BACKENDS
from attnlstm.training.module import restore_module

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

TOPICS = {
    "sport": ["match", "goal", "team", "coach", "season", "striker"],
    "money": ["market", "shares", "profit", "bank", "merger", "investor"],
    "film": ["actor", "scene", "director", "cinema", "premiere", "script"],
}
FILLERS = ["the", "a", "was", "of", "said", "and", "on", "after", "new", "in"]


def make_texts(count: int, seed: int) -> list[tuple[str, str]]:
    """Return texts with a few words of one topic each, and the topics."""
    generator = random.Random(seed)
    rows = []
    for number in range(count):
        topic = list(TOPICS)[number % len(TOPICS)]
        words = generator.choices(FILLERS, k=generator.randint(2, 12))
        words += generator.choices(TOPICS[topic], k=generator.randint(1, 3))
        generator.shuffle(words)
        rows.append((" ".join(words), topic))
    return rows


def write_csv(path: Path, header: list[str], rows: list) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="session")
def text_checkpoint(run_train: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best checkpoint of a model that has learned three topics of texts."""
    folder = tmp_path_factory.mktemp("texts")
    train = write_csv(folder / "train.csv", ["text", "label"], make_texts(150, seed=0))
    test = write_csv(folder / "test.csv", ["text", "label"], make_texts(30, seed=1))
    result = run_train(
        folder / "run",
        "data=text_files",
        f"data.train={train}",
        f"data.test={test}",
        "data.max_length=10",
        "trainer.max_epochs=10",
        "data.batch_size=8",
        "model.lstm.hidden_size=16",
        "model.embedding.size=16",
        "model.embedding.variational_dropout=0",
        "model.dropout=0",
        "optimizer.lr=2e-2",
    )
    assert result.metrics["test/accuracy"] > 0.9
    return folder / "run" / "checkpoints" / "best.ckpt"


def make_series(count: int, seed: int) -> tuple[list[np.ndarray], list[str]]:
    """Return noisy rising or falling lines of 5 to 12 steps in two channels, and their labels."""
    generator = np.random.default_rng(seed)
    series, labels = [], []
    for number in range(count):
        steps = np.arange(generator.integers(5, 13))
        slope = 1 if number % 2 else -1
        rising = slope * steps + generator.normal(size=len(steps))
        series.append(np.stack([rising, generator.normal(size=len(steps))], axis=1))
        labels.append("up" if number % 2 else "down")
    return series, labels


def write_long_table(path: Path, series: list[np.ndarray], labels: list[str]) -> Path:
    rows = [
        [f"s{number}", step, values[0], values[1], label]
        for number, (steps, label) in enumerate(zip(series, labels, strict=True))
        for step, values in enumerate(steps)
    ]
    return write_csv(path, ["id", "time", "height", "noise", "label"], rows)


@pytest.fixture(scope="session")
def series_checkpoint(run_train: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best checkpoint of a model trained on series from a long table."""
    folder = tmp_path_factory.mktemp("series")
    train = write_long_table(folder / "train.csv", *make_series(60, seed=0))
    result = run_train(
        folder / "run",
        "data=series_files",
        f"data.train={train}",
        "trainer.max_epochs=10",
        "model.lstm.dropout=0",
        "model.dropout=0",
        "optimizer.lr=1e-2",
    )
    assert result.metrics["test/accuracy"] > 0.8
    return folder / "run" / "checkpoints" / "best.ckpt"


def run(tmp_path, *overrides):
    config = compose_config(
        ROOT / "conf", "predict", PredictConfig, ["trainer.accelerator=cpu", *overrides]
    )
    return predict(config, tmp_path / "run")


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def texts(tmp_path):
    """A file of labelled texts, two of them unreadable."""
    rows = make_texts(40, seed=2)
    rows.insert(3, ("", "film"))
    path = write_csv(tmp_path / "new.csv", ["text", "label"], rows)
    with path.open("ab") as file:
        file.write(b"broken \xff encoding,film\n")
    return path


def test_every_row_has_a_record(text_checkpoint, texts, tmp_path):
    output = tmp_path / "out.csv"
    metrics = run(tmp_path, f"ckpt={text_checkpoint}", f"input={texts}", f"output={output}")
    rows = read_csv(output)
    assert [int(row["row"]) for row in rows] == list(range(42))
    assert [row["error"] for row in rows if row["error"]] == ["no text", "not UTF-8"]
    for row, number in ((rows[3], 3), (rows[41], 41)):
        assert row["row"] == str(number)
        assert row["label"] == ""
        assert row["probability of film"] == ""
    sound = [row for row in rows if not row["error"]]
    right = sum(row["label"] == row["true_label"] for row in sound)
    assert metrics["accuracy"] == pytest.approx(right / 40)
    assert metrics["accuracy"] > 0.9
    for row in sound:
        probabilities = {k: float(v) for k, v in row.items() if k.startswith("probability of ")}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert f"probability of {row['label']}" == max(probabilities, key=probabilities.get)


def test_the_formats_agree(text_checkpoint, texts, tmp_path):
    for ending in ("csv", "jsonl", "parquet"):
        output = tmp_path / f"out.{ending}"
        run(
            tmp_path,
            f"ckpt={text_checkpoint}",
            f"input={texts}",
            f"output={output}",
            "attention=true",
        )
    from_json = [json.loads(line) for line in (tmp_path / "out.jsonl").open(encoding="utf-8")]
    from_parquet = pq.read_table(tmp_path / "out.parquet").to_pylist()
    from_csv = read_csv(tmp_path / "out.csv")
    for a, b, c in zip(from_csv, from_json, from_parquet, strict=True):
        assert list(a) == list(b) == list(c)
        assert b["label"] == c["label"] == (a["label"] or None)
        assert b["tokens"] == c["tokens"] == (json.loads(a["tokens"]) if a["tokens"] else None)
        if b["attention"] is not None:
            assert json.loads(a["attention"]) == b["attention"]
            assert c["attention"] == pytest.approx(b["attention"], abs=1e-6)
            assert len(b["attention"]) == len(b["tokens"]) <= 10  # data.max_length
            assert sum(b["attention"]) == pytest.approx(1, abs=1e-4)


def test_backends_agree(text_checkpoint, texts, tmp_path):
    results = {}
    for backend in BACKENDS:
        output = tmp_path / f"{backend}.csv"
        run(
            tmp_path,
            f"ckpt={text_checkpoint}",
            f"input={texts}",
            f"output={output}",
            f"model.lstm.backend={backend}",
            f"data.batch_size={3 + len(results)}",
        )
        results[backend] = read_csv(output)
    for rows in results.values():
        for row, expected in zip(rows, results["naive"], strict=True):
            assert row["label"] == expected["label"]
            for name in row:
                if name.startswith("probability") and row[name]:
                    assert float(row[name]) == pytest.approx(float(expected[name]), abs=1e-5)


def test_probabilities_equal_the_models(text_checkpoint, tmp_path):
    """The reference is the module, called with one text at a time."""
    rows = make_texts(5, seed=3)
    path = write_csv(tmp_path / "new.csv", ["text"], [[text] for text, _ in rows])
    run(tmp_path, f"ckpt={text_checkpoint}", f"input={path}", f"output={tmp_path}/out.csv")
    trained = load_checkpoint(text_checkpoint)
    module = restore_module(trained).eval()
    for row, (text, _) in zip(read_csv(tmp_path / "out.csv"), rows, strict=True):
        ids = torch.from_numpy(trained.encoder.encode([text]).ids[0]).long().unsqueeze(0)
        probabilities = module(ids, [ids.size(1)]).logits.softmax(dim=1)[0]
        for label, probability in zip(trained.label_names, probabilities.tolist(), strict=True):
            assert float(row[f"probability of {label}"]) == pytest.approx(probability, abs=2e-6)


def test_a_text_on_the_command_line_is_taken_literally(
    text_checkpoint, tmp_path, monkeypatch, capsys
):
    text = "the \"team\" said: 'goal' [a, b] {c} ${d} \\ = é (1) striker"
    arguments = [f"ckpt={text_checkpoint}", f"text={text}", f"runs_dir={tmp_path}/runs"]
    monkeypatch.setattr(sys, "argv", ["predict.py", *arguments])
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "predict.py"), run_name="__main__")
    output = capsys.readouterr().out
    assert "sport" in output
    assert text in output.replace("\n", "")


def test_from_standard_input_to_standard_output(text_checkpoint, tmp_path):
    completed = subprocess.run(
        [
            sys.executable,
            ROOT / "predict.py",
            f"ckpt={text_checkpoint}",
            "input=-",
            "output=-",
            f"runs_dir={tmp_path}/runs",
        ],
        input=b"the team said goal\r\n\nshares of the bank" + b"\n\xff\n",
        capture_output=True,
        cwd=tmp_path,
    )
    assert completed.returncode == 0, completed.stderr
    rows = list(csv.DictReader(io.StringIO(completed.stdout.decode(), newline="")))
    assert [row["label"] for row in rows] == ["sport", "", "money", ""]
    assert [row["error"] for row in rows] == ["", "no text", "", "not UTF-8"]


def test_texts_longer_than_the_lstm_reads_are_counted(run_train, texts, tmp_path, caplog):
    overrides = [f"data.train={texts}", "data.on_bad_row=drop", "trainer.max_epochs=1"]
    result = run_train(tmp_path / "trained", "data=text_files", *overrides, "model.max_steps=4")
    path = tmp_path / "new.txt"
    path.write_text("the actor and the director\nprofit\n\nfour words are read\n")
    caplog.set_level("INFO")
    for given in (f"input={path}", "text=the actor and the director"):
        caplog.clear()
        run(tmp_path, f"ckpt={result.checkpoint}", given)
        assert "the LSTM reads the first 4 tokens of 1 longer text" in caplog.text
    caplog.clear()
    run(tmp_path, f"ckpt={result.checkpoint}", "text=four words are read")
    assert "the LSTM reads" not in caplog.text


def test_lines_of_a_text_file(text_checkpoint, tmp_path):
    path = tmp_path / "new.txt"
    path.write_text("the actor and the director\nprofit, after the merger\n")
    run(tmp_path, f"ckpt={text_checkpoint}", f"input={path}", f"output={tmp_path}/out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    assert [line["label"] for line in lines] == ["film", "money"]
    assert [line["true_label"] for line in lines] == [None, None]


def test_the_default_output_is_in_the_run_folder(text_checkpoint, texts, tmp_path):
    run(tmp_path, f"ckpt={text_checkpoint}", f"input={texts}")
    assert len(read_csv(tmp_path / "run" / "predictions.csv")) == 42


def test_series_from_a_long_table(series_checkpoint, tmp_path):
    """Channels are found by name, whatever the order of the columns."""
    series, labels = make_series(20, seed=5)
    path = write_long_table(tmp_path / "new.csv", series, labels)
    outputs = []
    for source in (path, tmp_path / "turned.csv"):
        if source != path:
            rows = read_csv(path)
            names = list(reversed(rows[0]))
            write_csv(source, names, [[row[name] for name in names] for row in rows])
        output = tmp_path / f"{source.stem}.jsonl"
        metrics = run(
            tmp_path,
            f"ckpt={series_checkpoint}",
            f"input={source}",
            f"output={output}",
            "attention=true",
        )
        assert metrics["accuracy"] > 0.8
        outputs.append([json.loads(line) for line in output.open()])
    first, turned = outputs
    assert [row["id"] for row in first] == [f"s{number}" for number in range(20)]
    assert [row["true_label"] for row in first] == labels
    assert [len(row["attention"]) for row in first] == [len(steps) for steps in series]
    for a, b in zip(first, turned, strict=True):
        assert {k: v for k, v in a.items() if k != "file"} == {
            k: v for k, v in b.items() if k != "file"
        }


def test_the_same_series_in_a_wide_table(series_checkpoint, tmp_path, caplog):
    """Channels are matched by name; an index among the columns is not one."""
    series, labels = make_series(12, seed=8)
    long = write_long_table(tmp_path / "long.csv", series, labels)
    names = [f"{channel}_{step}" for step in range(12) for channel in ("noise", "height")]
    rows = []
    for number, steps in enumerate(series):
        cells = [*map(repr, steps[:, ::-1].ravel().tolist())]
        cells += [""] * (len(names) - len(cells))
        rows.append([99 - number, *cells, labels[number], f"s{number}"])
    wide = write_csv(tmp_path / "wide.csv", ["Unnamed: 0", *names, "label", "id"], rows)
    found = []
    for source in (long, wide):
        output = tmp_path / f"{source.stem}_out.csv"
        with caplog.at_level("INFO"):
            run(tmp_path, f"ckpt={series_checkpoint}", f"input={source}", f"output={output}")
        found.append([row | {"file": ""} for row in read_csv(output)])
    assert found[0] == found[1]
    assert "wide.csv is read as wide: a series in each row" in caplog.text
    assert "columns left out of wide.csv: 'Unnamed: 0' (an index)" in caplog.text


def test_series_from_an_npz_file(series_checkpoint, tmp_path):
    series, labels = make_series(6, seed=6)
    longest = max(map(len, series))
    padded = np.zeros((6, longest, 2))
    for row, steps in zip(padded, series, strict=True):
        row[: len(steps)] = steps
    padded[2, 1, 0] = np.nan
    np.savez(tmp_path / "new.npz", X=padded, y=labels, lengths=[len(steps) for steps in series])
    run(
        tmp_path,
        f"ckpt={series_checkpoint}",
        f"input={tmp_path}/new.npz",
        f"output={tmp_path}/out.csv",
    )
    rows = read_csv(tmp_path / "out.csv")
    assert len(rows) == 6
    assert [bool(row["error"]) for row in rows] == [False, False, True, False, False, False]
    assert "missing" in rows[2]["error"]


def test_the_report_shows_the_worst_first(text_checkpoint, tmp_path):
    rows = [*make_texts(20, seed=7), ("the goal of the team <b>coach</b> & striker", "film")]
    path = write_csv(tmp_path / "new.csv", ["text", "label"], rows)
    run(tmp_path, f"ckpt={text_checkpoint}", f"input={path}", f"report={tmp_path}/report.html")
    page = (tmp_path / "report.html").read_text()
    assert not (tmp_path / "run" / "predictions.csv").exists()
    assert "<b>coach" not in page
    position = page.index("row 20 (line 22)")
    assert position < page.index("row 0 (line 2)")
    assert html.escape("&") in page


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        ([], "give either text=... or input=FILE"),
        (["text=a", "input=b.csv"], "give either text=... or input=FILE"),
        (["input=missing.csv"], "input=missing.csv does not exist"),
        (["input={texts}", "output={folder}/out.xlsx"], "end it in .csv, .jsonl, .parquet"),
        (["input={texts}", "output={folder}/missing/out.csv"], "cannot be written"),
        (["input={texts}", "output={texts}"], "is an input"),
        (["input={texts}", "report={folder}/missing/r.html"], "cannot be written"),
        (["input={texts}", "data.text_column=body"], "body"),
        (["input={texts}", "data.time_column=t"], "means nothing to a model of texts"),
    ],
)
def test_user_errors(text_checkpoint, texts, tmp_path, overrides, fault):
    before = texts.read_bytes()
    filled = [text.format(texts=texts, folder=tmp_path) for text in overrides]
    with pytest.raises(UserError) as caught:
        run(tmp_path, f"ckpt={text_checkpoint}", *filled)
    assert fault in str(caught.value)
    assert texts.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "run") == ["new.csv"]


def test_a_model_of_series_refuses_text(series_checkpoint, tmp_path):
    for override in ("text=word", "input=-"):
        with pytest.raises(UserError, match="reads series"):
            run(tmp_path, f"ckpt={series_checkpoint}", override)


def test_an_interrupted_run_leaves_no_partial_output(text_checkpoint, texts, tmp_path, monkeypatch):
    output = tmp_path / "out.csv"
    output.write_text("precious")

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("attnlstm.inference.predictor.Predictor.predict_chunks", stop)
    with pytest.raises(KeyboardInterrupt):
        run(
            tmp_path,
            f"ckpt={text_checkpoint}",
            f"input={texts}",
            f"output={output}",
            "overwrite=true",
        )
    assert output.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv", "out.csv"]


def test_attention_needs_a_pooling_with_attention(run_train, texts, tmp_path):
    result = run_train(
        tmp_path / "trained",
        "data=text_files",
        f"data.train={texts}",
        "data.on_bad_row=drop",
        "trainer.max_epochs=1",
        "model.pooling=mean",
        figures=True,
    )
    with pytest.raises(UserError, match="attention=true: this model's pooling, mean, has none"):
        run(tmp_path, f"ckpt={result.checkpoint}", f"input={texts}", "attention=true")


@pytest.fixture(scope="session")
def unsure_checkpoint(run_train: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best checkpoint of a model of texts with noisy labels, with 300 validation rows."""
    folder = tmp_path_factory.mktemp("unsure")
    train = write_csv(folder / "train.csv", ["text", "label"], make_unsure_texts(600, seed=0))
    test = write_csv(folder / "test.csv", ["text", "label"], make_unsure_texts(50, seed=1))
    run_train(
        folder / "run",
        "data=text_files",
        f"data.train={train}",
        f"data.test={test}",
        "data.val_fraction=0.5",
        "trainer.max_epochs=5",
        "model.embedding.size=8",
        "model.embedding.variational_dropout=0",
        "model.dropout=0",
        "data.batch_size=8",
        "optimizer.lr=2e-2",
    )
    return folder / "run" / "checkpoints" / "best.ckpt"


def make_unsure_texts(count: int, seed: int) -> list[tuple[str, str]]:
    """Return texts of three words of one topic; four in ten have the label of a random topic."""
    generator = random.Random(seed)
    rows = []
    for _ in range(count):
        topic = generator.choice(list(TOPICS))
        words = " ".join(generator.choices(TOPICS[topic], k=3))
        rows.append((words, generator.choice(list(TOPICS)) if generator.random() < 0.4 else topic))
    return rows


@pytest.mark.parametrize("coverage", [0.6, 0.9])
def test_prediction_sets_have_the_requested_coverage(unsure_checkpoint, tmp_path, caplog, coverage):
    caplog.set_level("INFO")
    path = write_csv(tmp_path / "new.csv", ["text", "label"], make_unsure_texts(1000, seed=2))
    overrides = [f"ckpt={unsure_checkpoint}", f"input={path}", f"prediction_sets={coverage}"]
    metrics = run(tmp_path, *overrides, f"output={tmp_path}/out.csv")
    # the deviation over draws of 300 validation rows and these 1000 rows
    sigma = np.sqrt(coverage * (1 - coverage) * (1 / 300 + 1 / 1000))
    assert metrics["coverage"] >= coverage - 4 * sigma
    rows = read_csv(tmp_path / "out.csv")
    sets = [json.loads(row["prediction_set"]) for row in rows]
    covered = np.mean([row["true_label"] in labels for row, labels in zip(rows, sets, strict=True)])
    assert metrics["coverage"] == pytest.approx(covered)
    for row, labels in zip(rows, sets, strict=True):
        assert labels[0] == row["label"]
        likely = [float(row[f"probability of {label}"]) for label in labels]
        assert likely == sorted(likely, reverse=True)
    size = np.mean([len(labels) for labels in sets])
    if coverage == 0.6:
        assert size < 1.5
        assert 0.7 < metrics["accuracy"] < 0.8  # 0.73 of the rows have their topic's label
    else:
        assert 1.2 < size < 3  # neither only the most probable label nor all labels
    assert f"prediction sets have {size:.2f} labels on average" in caplog.text
    assert f"have the label of {covered:.4f} of these; {coverage} was asked for" in caplog.text


def test_prediction_sets_are_the_same_in_every_format(unsure_checkpoint, texts, tmp_path):
    overrides = [f"ckpt={unsure_checkpoint}", f"input={texts}", "prediction_sets=0.9"]
    for ending in ("csv", "jsonl", "parquet"):
        run(tmp_path, *overrides, f"output={tmp_path}/out.{ending}")
    table = pq.read_table(tmp_path / "out.parquet")
    assert str(table.schema.field("prediction_set").type).startswith("list<")
    from_json = [json.loads(line) for line in (tmp_path / "out.jsonl").open(encoding="utf-8")]
    from_csv = read_csv(tmp_path / "out.csv")
    for a, b, c in zip(from_csv, from_json, table.to_pylist(), strict=True):
        from_text = json.loads(a["prediction_set"]) if a["prediction_set"] else None
        assert from_text == b["prediction_set"] == c["prediction_set"]
        assert (from_text is None) == bool(a["error"])


def test_the_prediction_set_of_a_text_is_printed(unsure_checkpoint, tmp_path, capsys, caplog):
    overrides = [f"ckpt={unsure_checkpoint}", "text=goal"]
    run(tmp_path, *overrides, "prediction_sets=0.3")
    assert "prediction set (0.3): sport\n" in capsys.readouterr().out
    run(tmp_path, *overrides, "prediction_sets=0.999")
    assert "prediction set (0.999): sport, " in capsys.readouterr().out
    assert (
        "prediction_sets=0.999 needs 999 validation rows, and this checkpoint has scores of 300: "
        "every set has all classes"
    ) in caplog.text


def test_prediction_sets_need_scores(unsure_checkpoint, tmp_path):
    last = unsure_checkpoint.with_name("last.ckpt")
    with pytest.raises(UserError, match=r"prediction_sets=0.9 needs .*last.ckpt has none: give"):
        run(tmp_path, f"ckpt={last}", "text=goal", "prediction_sets=0.9")
    with pytest.raises(UserError, match=r"prediction_sets=1: expected float > 0 and < 1"):
        run(tmp_path, f"ckpt={last}", "text=goal", "prediction_sets=1")


def test_evaluation_and_prediction_report_the_same_probabilities(unsure_checkpoint, tmp_path):
    evaluation = evaluate(EvaluateConfig(ckpt=str(unsure_checkpoint)), tmp_path / "evaluated")
    test = load_checkpoint(unsure_checkpoint).config.data.test
    (test,) = [test] if isinstance(test, str) else test
    run(tmp_path, f"ckpt={unsure_checkpoint}", f"input={test}", f"output={tmp_path}/out.csv")
    predicted = [
        [float(row[f"probability of {label}"]) for label in sorted(TOPICS)]
        for row in read_csv(tmp_path / "out.csv")
    ]
    assert evaluation.probabilities.numpy() == pytest.approx(np.array(predicted), abs=1.1e-6)
    reported = json.loads((unsure_checkpoint.parents[1] / "metrics.json").read_text())
    assert evaluation.metrics == pytest.approx(reported, abs=1e-6)
