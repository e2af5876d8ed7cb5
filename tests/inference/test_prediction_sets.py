"""Sets of labels with a requested coverage."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from attnlstm.checkpoint.load import load_checkpoint
from attnlstm.config.schema import EvaluateConfig
from attnlstm.errors import UserError
from attnlstm.inference.evaluation import evaluate
from tests.inference.examples import (
    TOPICS,
    make_unsure_texts,
    write_csv,
)
from tests.inference.verbs import read_csv, run_predict

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("coverage", [0.6, 0.9])
def test_prediction_sets_have_the_requested_coverage(unsure_checkpoint, tmp_path, caplog, coverage):
    caplog.set_level("INFO")
    path = write_csv(tmp_path / "new.csv", ["text", "label"], make_unsure_texts(1000, seed=2))
    overrides = [f"ckpt={unsure_checkpoint}", f"input={path}", f"prediction_sets={coverage}"]
    metrics = run_predict(tmp_path / "run", *overrides, f"output={tmp_path}/out.csv")
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
        run_predict(tmp_path / "run", *overrides, f"output={tmp_path}/out.{ending}")
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
    run_predict(tmp_path / "run", *overrides, "prediction_sets=0.3")
    assert "prediction set (0.3): sport\n" in capsys.readouterr().out
    run_predict(tmp_path / "run", *overrides, "prediction_sets=0.999")
    assert "prediction set (0.999): sport, " in capsys.readouterr().out
    assert (
        "prediction_sets=0.999 needs 999 validation rows, and this checkpoint has scores of 300: "
        "every set has all classes"
    ) in caplog.text


def test_prediction_sets_need_scores(unsure_checkpoint, tmp_path):
    last = unsure_checkpoint.with_name("last.ckpt")
    with pytest.raises(UserError, match=r"prediction_sets=0.9 needs .*last.ckpt has none: give"):
        run_predict(tmp_path / "run", f"ckpt={last}", "text=goal", "prediction_sets=0.9")
    with pytest.raises(UserError, match=r"prediction_sets=1: expected float > 0 and < 1"):
        run_predict(tmp_path / "run", f"ckpt={last}", "text=goal", "prediction_sets=1")


def test_evaluation_and_prediction_report_the_same_probabilities(unsure_checkpoint, tmp_path):
    evaluation = evaluate(EvaluateConfig(ckpt=str(unsure_checkpoint)), tmp_path / "evaluated")
    test = load_checkpoint(unsure_checkpoint).config.data.test
    (test,) = [test] if isinstance(test, str) else test
    run_predict(
        tmp_path / "run", f"ckpt={unsure_checkpoint}", f"input={test}", f"output={tmp_path}/out.csv"
    )
    predicted = [
        [float(row[f"probability of {label}"]) for label in sorted(TOPICS)]
        for row in read_csv(tmp_path / "out.csv")
    ]
    assert evaluation.predictions.numpy() == pytest.approx(np.array(predicted), abs=1.1e-6)
    reported = json.loads((unsure_checkpoint.parents[1] / "metrics.json").read_text())
    assert evaluation.metrics == pytest.approx(reported, abs=1e-6)
