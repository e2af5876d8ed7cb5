"""The notebooks run from start to end, and what they compute and show holds."""

import json
import os
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

ROOT = Path(__file__).parents[1]
FORMULAS = "01_lstm_from_the_formulas.ipynb"
TRAINING = "02_train_and_look.ipynb"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of what the notebooks need, and a kernel "attnlstm": the Python that runs the tests.

    The notebooks may write beside the copy, and Jupyter's own files go there as well.
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
        yield folder


def execute(workplace: Path, name: str, results: str) -> dict[str, Any]:
    """Run a notebook, which must neither fail nor warn, and evaluate `results`, a dict, in it."""
    folder = workplace / "notebooks"
    notebook = nbformat.read(folder / name, as_version=4)
    asking = nbformat.v4.new_code_cell(f"import json\nprint(json.dumps({results}))")
    notebook.cells.append(asking)
    NotebookClient(
        notebook,
        kernel_name="attnlstm",
        timeout=300,
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    assert [text for kind, text in outputs(notebook) if kind in ("error", "stderr")] == []
    return json.loads("".join(output.text for output in asking.outputs))


def outputs(notebook: nbformat.NotebookNode) -> Iterator[tuple[str, str]]:
    """What each output is (stdout, stderr, error, display_data ...), and its text."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            texts = [output.get("text", ""), *output.get("traceback", [])]
            data = output.get("data", {})
            texts += [data[kind] for kind in data if kind.startswith("text/")]
            yield output.get("name", output.output_type), "\n".join(texts)


@pytest.mark.parametrize("name", [FORMULAS, TRAINING])
def test_the_kept_outputs_are_of_one_clean_run(name: str) -> None:
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
