"""The notebooks run from start to end, and their results support what their text says."""

import csv
import html
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec
from nbclient import NotebookClient

import attnlstm
from attnlstm.nn.backends import BACKENDS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
FORMULAS = "01_lstm_from_the_formulas.ipynb"
TRAINING = "02_train_and_look.ipynb"
TEXT = "03_text.ipynb"
PYTHON = "04_python.ipynb"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of what the notebooks need, and a kernel "attnlstm" with the Python of the tests.

    The files that the notebooks write, those of Jupyter and the encoded rows stay in this folder.
    """
    folder = tmp_path_factory.mktemp("workplace")
    for name in ("conf", "notebooks"):
        shutil.copytree(ROOT / name, folder / name)
    write_kernel_spec(str(folder / "jupyter/kernels/attnlstm"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "jupyter/runtime"))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("PYTHONPATH", str(Path(attnlstm.__file__).parents[1]), prepend=os.pathsep)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
        yield folder


SHORTER = {
    TRAINING: ("budget.steps=200", "budget.steps=60"),
    TEXT: (
        '"refit=false",\n        "trainer=cpu"',
        '"refit=false", "budget.steps=40", "trainer=cpu"',
    ),
    PYTHON: ("budget.steps=60", "budget.steps=30"),
}
"""Trainings that the tests shorten: what their text says holds after fewer steps, too."""


def execute(workplace: Path, name: str, results: str) -> dict[str, Any]:
    """Run a notebook, which must not fail or warn, and evaluate the dict `results` in it."""
    folder = workplace / "notebooks"
    notebook = nbformat.read(folder / name, as_version=4)
    if name in SHORTER:
        written, shorter = SHORTER[name]
        code = (cell for cell in notebook.cells if cell.cell_type == "code")
        (cell,) = (cell for cell in code if written in cell.source)
        cell.source = cell.source.replace(written, shorter)
    query = nbformat.v4.new_code_cell(f"import json\nprint(json.dumps({results}))")
    notebook.cells.append(query)
    NotebookClient(
        notebook,
        kernel_name="attnlstm",
        timeout=300,
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    assert [text for kind, text in outputs(notebook) if kind in ("error", "stderr")] == []
    return json.loads("".join(output.text for output in query.outputs))


def outputs(notebook: nbformat.NotebookNode) -> Iterator[tuple[str, str]]:
    """Yield the kind (stdout, stderr, error, display_data ...) and the text of each output."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            texts = [output.get("text", ""), *output.get("traceback", [])]
            data = output.get("data", {})
            texts += [data[kind] for kind in data if kind.startswith("text/")]
            yield output.get("name", output.output_type), "\n".join(texts)


@pytest.mark.parametrize("name", [FORMULAS, TRAINING, TEXT, PYTHON])
def test_the_stored_outputs_come_from_one_clean_run(name: str) -> None:
    notebook = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    nbformat.validate(notebook)
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code_cells] == list(range(1, len(code_cells) + 1))
    assert len(json.dumps(notebook)) < 1_000_000
    for kind, text in outputs(notebook):
        assert kind not in ("error", "stderr")
        for machine_path in (str(ROOT), "/home/", "/root/", "/tmp/", "site-packages"):
            assert machine_path not in text


def test_formulas(workplace: Path) -> None:
    results = execute(
        workplace,
        FORMULAS,
        "{'one_step': one_step_h.flatten().tolist(), 'six_steps': six_steps_h.flatten().tolist(),"
        " 'differences': differences, 'slips': slips, 'lost_attention': lost_attention}",
    )
    assert results["one_step"] == pytest.approx([-0.2443, 0.0840, 0.4837], abs=5.1e-5)
    assert results["six_steps"] == pytest.approx([0.1539, 0.1300, -0.0973], abs=5.1e-5)
    assert len(results["differences"]) > 20
    assert max(results["differences"].values()) < 1e-6
    hidden_slip = results["slips"].pop("(b) w_hf for w_hi, steps: 1")
    assert hidden_slip < 1e-6  # a single step cannot show it
    assert {name[:3] for name in results["slips"]} == {"(a)", "(b)", "(c)", "(d)", "(e)"}
    assert min(results["slips"].values()) > 1e-3
    assert results["lost_attention"] > 0.3


def test_training(workplace: Path) -> None:
    results = execute(
        workplace,
        TRAINING,
        "{'trained': result.metrics, 'evaluated': evaluation.metrics,"
        " 'right': int(correct.sum()), 'backend_differences': backend_differences,"
        " 'attention': attention.sum(dim=1).tolist(),"
        " 'padding': attention[position > 1].abs().max().item(),"
        " 'run_dir': str(run_dir)}",
    )
    assert results["trained"]["test/accuracy"] > 0.9
    assert results["evaluated"] == pytest.approx(results["trained"], abs=1e-5)
    assert results["right"] / 370 == pytest.approx(results["trained"]["test/accuracy"], abs=1e-5)
    assert set(results["backend_differences"]) == set(BACKENDS)
    assert max(results["backend_differences"].values()) < 1e-5
    assert results["attention"] == pytest.approx([1.0] * 370, abs=1e-5)
    assert results["padding"] == 0
    assert (workplace / "runs") in Path(results["run_dir"]).parents  # not in the repository


def test_text(workplace: Path) -> None:
    results = execute(
        workplace,
        TEXT,
        "{'trained': result.metrics, 'predicted': scores, 'message': message,"
        " 'vocabulary': encoder.vocab_size, 'sentence': token_ids, 'texts': texts,"
        " 'kept': {name: len(part) for name, part in parts.items()},"
        " 'labels': [prediction.label for prediction in new[:4]],"
        " 'unknown': encoded.unknown.tolist(), 'attention': attention.tolist(),"
        " 'shaded': shade(texts[3], above_even(new[3].attention), '').data,"
        " 'effect': float(effects.max()), 'remaining': list(remaining.values()),"
        " 'correlations': correlations.tolist(), 'same_word': same_word,"
        " 'same_answer': same_answer, 'backend_differences': backend_differences,"
        " 'folder': str(folder.resolve())}",
    )
    folder = Path(results["folder"])
    assert (workplace / "runs") in folder.parents  # not in the repository
    assert results["trained"]["test/accuracy"] > 0.85
    assert results["predicted"]["accuracy"] == pytest.approx(results["trained"]["test/accuracy"])
    assert results["labels"] == ["sports", "business", "politics", "entertainment"]
    assert set(results["backend_differences"]) == set(BACKENDS)
    assert max(results["backend_differences"].values()) < 1e-5

    assert 10_000 < results["vocabulary"] < 20_000
    assert results["sentence"].count(0) == 2  # the unknown token
    assert results["unknown"][:3] == [0, 0, 0]
    assert results["unknown"][-1] > 5
    last_line = (folder / "faulty.csv").read_bytes().decode().count("\n")
    assert results["message"].startswith(
        f"no label in faulty.csv, 1 row: row 1200 (line {last_line}). "
    )
    assert results["message"].endswith("set data.on_bad_row=drop to continue without them")
    assert sum(results["kept"].values()) == 1600  # all but the bad row

    # what the notebook says about the attention
    attention = results["attention"]
    assert [sum(weights) for weights in attention] == pytest.approx([1] * 400, abs=1e-5)
    assert sum(map(max, attention)) / 400 < 3 / 64
    assert results["effect"] > 0
    nothing, random, least, most, best = results["remaining"]
    assert best + 0.1 < most < random - 0.1
    assert random < least < nothing + 0.02
    assert nothing - least < 0.05
    correlations = results["correlations"]
    assert 0.1 < sum(correlations) / len(correlations) < 0.8
    assert min(correlations) < 0
    assert results["same_word"] < 0.5
    assert results["same_answer"] > 350

    marked_up = results["texts"][3]
    assert "<b>film</b>" in marked_up
    page = (folder / "report.html").read_text(encoding="utf-8")
    for shown in (results["shaded"], page):
        assert "<b>film" not in shown
        assert marked_up in html.unescape(re.sub("<[^>]*>", "", shown))
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == 1 + 400 + len(results["texts"])


def test_python(workplace: Path) -> None:
    results = execute(
        workplace,
        PYTHON,
        "{'texts': text_accuracy, 'restored': restored.classes_.tolist(),"
        " 'text_scores': {name: float(s.mean()) for name, s in text_scores.items()},"
        " 'series_scores': {name: float(s.mean()) for name, s in series_scores.items()},"
        " 'attention': [float(w.sum()) for w in weights], 'lengths': list(map(len, weights))}",
    )
    assert results["texts"] > 0.8
    assert results["restored"] == ["business", "entertainment", "politics", "sports", "tech"]
    assert min(results["text_scores"].values()) > 0.8
    assert min(results["series_scores"].values()) > 0.9
    assert results["attention"] == pytest.approx([1.0] * 4, abs=1e-4)
    assert results["lengths"] == [100] * 4
    notebook = nbformat.read(ROOT / "notebooks" / PYTHON, as_version=4)
    assert any("Epoch" in text for kind, text in outputs(notebook) if kind == "stdout")
