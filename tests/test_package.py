"""The package as users install it: its public names, and a wheel in a separate environment."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import attnlstm

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index")
    run(*pip, "--wheel-dir", folder, ROOT, cwd=folder)
    (path,) = folder.iterdir()
    return path


def test_a_wheel_contains_every_file_of_the_package_and_of_conf(wheel: Path) -> None:
    folders = {ROOT / "src" / "attnlstm": "attnlstm", ROOT / "conf": "attnlstm/conf"}
    files = {
        f"{name}/{path.relative_to(folder).as_posix()}"
        for folder, name in folders.items()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {"attnlstm/py.typed", "attnlstm/conf/train.yaml"} < files
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == files


def test_a_wheel_trains_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    installed = Path(run(scripts / "python", "-c", PURELIB, cwd=tmp_path).strip())
    (installed / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    pip = (sys.executable, "-m", "pip", "--python", scripts / "python", "install")
    run(*pip, "--no-deps", "--no-index", wheel, cwd=tmp_path)
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "tiny.yaml").write_text(TINY)
    empty = tmp_path / "empty"
    empty.mkdir()
    located = run(scripts / "python", "-c", "import attnlstm; print(attnlstm.__file__)", cwd=empty)
    assert Path(located.strip()).is_relative_to(installed)

    train = (scripts / "attnlstm", "train", "--config-dir=../mine", "experiment=tiny")
    assert "2 epochs in" in run(*train, cwd=empty)
    (folder,) = (empty / "runs" / "JapaneseVowels").iterdir()
    assert (folder / "checkpoints" / "best.ckpt").exists()
    assert (folder / "train.log").exists()
    assert "hidden_size: 4\n" in (folder / "config.yaml").read_text()
    assert os.listdir(empty) == ["runs"]


PURELIB = "import sysconfig; print(sysconfig.get_path('purelib'))"

TINY = """# @package _global_
defaults:
  - override /model/stem: none
validation: holdout
refit: false
baseline: none
model: {lstm: {hidden_size: 4, backend: fused}, random_convolutions: null}
trainer: {max_epochs: 2, accelerator: cpu}
callbacks: {figures: null}
"""


def test_the_version_is_the_same_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.+)$", citation, flags=re.MULTILINE)[1] == attnlstm.__version__
    newest = re.search(r"^## (\d\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert newest[1] == attnlstm.__version__


def test_public_names_exist_and_are_imported_lazily() -> None:
    code = (
        "import sys, attnlstm\n"
        "before = set(sys.modules)\n"
        "assert not {'torch', 'lightning', 'hydra', 'numpy'} & before, before\n"
        "assert set(attnlstm.__all__) <= set(dir(attnlstm))\n"
        "from attnlstm import LSTM\n"
        "assert not {'lightning', 'hydra', 'omegaconf', 'datasets'} & set(sys.modules)\n"
        "from attnlstm import AttentionLSTMClassifier\n"
        "assert not {'lightning', 'hydra', 'datasets', 'aeon'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    public = {name: getattr(attnlstm, name) for name in attnlstm.__all__}
    assert public["load"] is attnlstm.estimator.loading.load
    assert public["LSTM"] is attnlstm.nn.LSTM
    with pytest.raises(AttributeError, match="no attribute 'lstm'"):
        _ = attnlstm.lstm


def test_type_checkers_see_the_public_names() -> None:
    """mypy, another of the checks, makes sure that they exist in the modules given here."""
    source = ast.parse((ROOT / "src" / "attnlstm" / "__init__.py").read_text())
    imports = [node for node in ast.walk(source) if isinstance(node, ast.ImportFrom)]
    names = {
        alias.asname or alias.name
        for node in imports
        if (node.module or "").startswith("attnlstm.")
        for alias in node.names
    }
    assert names | {"__version__"} == set(attnlstm.__all__)
