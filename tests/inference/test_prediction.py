"""Prediction: the same results in every format, one record per row."""

import csv
import html
import io
import json
import sys

import pyarrow.parquet as pq
import pytest
import torch

from attnlstm.checkpoint.load import load_checkpoint
from attnlstm.errors import UserError
from attnlstm.nn.backends import BACKENDS
from attnlstm.training.module import restore_module
from tests.inference.examples import (
    make_texts,
    write_csv,
)
from tests.inference.verbs import read_csv, run_predict

pytestmark = pytest.mark.slow


def test_every_row_has_a_record(text_checkpoint, texts, tmp_path):
    output = tmp_path / "out.csv"
    metrics = run_predict(
        tmp_path / "run", f"ckpt={text_checkpoint}", f"input={texts}", f"output={output}"
    )
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
        run_predict(
            tmp_path / "run",
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
        run_predict(
            tmp_path / "run",
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
    run_predict(
        tmp_path / "run", f"ckpt={text_checkpoint}", f"input={path}", f"output={tmp_path}/out.csv"
    )
    trained = load_checkpoint(text_checkpoint)
    module = restore_module(trained).eval()
    for row, (text, _) in zip(read_csv(tmp_path / "out.csv"), rows, strict=True):
        ids = torch.from_numpy(trained.encoder.encode([text]).ids[0]).long().unsqueeze(0)
        probabilities = module(ids, [ids.size(1)]).logits.softmax(dim=1)[0]
        for label, probability in zip(trained.label_names, probabilities.tolist(), strict=True):
            assert float(row[f"probability of {label}"]) == pytest.approx(probability, abs=2e-6)


def test_a_text_on_the_command_line_is_taken_literally(
    text_checkpoint, tmp_path, monkeypatch, run_script
):
    text = "the \"team\" said: 'goal' [a, b] {c} ${d} \\ = é (1) striker"
    arguments = [f"ckpt={text_checkpoint}", f"text={text}", f"runs_dir={tmp_path}/runs"]
    monkeypatch.chdir(tmp_path)
    output = run_script("predict.py", *arguments).out
    assert "sport" in output
    assert text in output.replace("\n", "")


def test_from_standard_input_to_standard_output(text_checkpoint, tmp_path, monkeypatch, run_script):
    lines = io.BytesIO(b"the team said goal\r\n\nshares of the bank" + b"\n\xff\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(lines))
    monkeypatch.chdir(tmp_path)
    finished = run_script("predict.py", f"ckpt={text_checkpoint}", "input=-", "output=-")
    assert finished.code == 0, finished.err
    rows = list(csv.DictReader(io.StringIO(finished.out, newline="")))
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
        run_predict(tmp_path / "run", f"ckpt={result.checkpoint}", given)
        assert "the LSTM reads the first 4 tokens of 1 longer text" in caplog.text
    caplog.clear()
    run_predict(tmp_path / "run", f"ckpt={result.checkpoint}", "text=four words are read")
    assert "the LSTM reads" not in caplog.text


def test_lines_of_a_text_file(text_checkpoint, tmp_path):
    path = tmp_path / "new.txt"
    path.write_text("the actor and the director\nprofit, after the merger\n")
    run_predict(
        tmp_path / "run", f"ckpt={text_checkpoint}", f"input={path}", f"output={tmp_path}/out.jsonl"
    )
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    assert [line["label"] for line in lines] == ["film", "money"]
    assert [line["true_label"] for line in lines] == [None, None]


def test_the_default_output_is_in_the_run_folder(text_checkpoint, texts, tmp_path):
    run_predict(tmp_path / "run", f"ckpt={text_checkpoint}", f"input={texts}")
    assert len(read_csv(tmp_path / "run" / "predictions.csv")) == 42


def test_the_report_shows_the_worst_first(text_checkpoint, tmp_path):
    rows = [*make_texts(20, seed=7), ("the goal of the team <b>coach</b> & striker", "film")]
    path = write_csv(tmp_path / "new.csv", ["text", "label"], rows)
    run_predict(
        tmp_path / "run",
        f"ckpt={text_checkpoint}",
        f"input={path}",
        f"report={tmp_path}/report.html",
    )
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
        run_predict(tmp_path / "run", f"ckpt={text_checkpoint}", *filled)
    assert fault in str(caught.value)
    assert texts.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "run") == ["new.csv"]


def test_an_interrupted_run_leaves_no_partial_output(text_checkpoint, texts, tmp_path, monkeypatch):
    output = tmp_path / "out.csv"
    output.write_text("precious")

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("attnlstm.inference.predictor.Predictor.predict_chunks", stop)
    with pytest.raises(KeyboardInterrupt):
        run_predict(
            tmp_path / "run",
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
        run_predict(
            tmp_path / "run", f"ckpt={result.checkpoint}", f"input={texts}", "attention=true"
        )
