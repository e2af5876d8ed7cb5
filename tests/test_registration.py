"""Parts defined outside the package are found once they are registered."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from attnlstm.config.data import SOURCES
from attnlstm.config.schema import register_source
from attnlstm.data import formats
from attnlstm.data.formats import opening, register_reader
from attnlstm.data.formats.labels import RowProblemError
from attnlstm.data.formats.opening import is_series_file, open_table
from attnlstm.data.formats.series import SeriesFile
from attnlstm.data.formats.table import Record, Table
from attnlstm.data.sources.series_files import SeriesFiles
from attnlstm.data.sources.text_files import TextFiles
from attnlstm.errors import UserError
from attnlstm.nn import LSTM, SequenceClassifier, build_pooling
from attnlstm.nn.pooling import POOLINGS, Pooling, register_pooling


def test_a_pooling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnlstm.nn.pooling.POOLINGS", POOLINGS.copy())

    @register_pooling("first")
    class FirstStep(Pooling):
        """The output of the first step."""

        def pool(
            self, outputs: Tensor, h_n: Tensor, lengths: Tensor, is_real: Tensor
        ) -> tuple[Tensor, None]:
            return outputs[:, 0], None

    pooling = build_pooling(["hn_query", "first"], feature_size=5)
    classifier = SequenceClassifier(LSTM(3, 5, batch_first=True), pooling, num_classes=2)
    assert classifier.head.in_features == 10
    outputs, h_n = torch.randn(4, 7, 5), torch.randn(1, 4, 5)
    context, attention = pooling(outputs, h_n, [7, 2, 3, 1])
    assert torch.equal(context[:, 5:], outputs[:, 0])
    assert attention.shape == (4, 7)


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> dict[str, type]:
    """The readers by ending; what a test registers is removed again."""
    opening.import_readers()
    monkeypatch.setattr(formats, "READERS", formats.READERS.copy())
    return formats.READERS


def test_a_kind_of_table(readers: dict[str, type], tmp_path: Path) -> None:
    @register_reader(".pairs")
    class PairsTable(Table):
        """Each line holds a label, a tab and a text."""

        def column_names(self) -> list[str]:
            return ["label", "text"]

        def _records(self, columns: Sequence[str]) -> Iterator[Record]:
            for number, line in enumerate(self.path.read_text().splitlines()):
                values = dict(zip(self.column_names(), line.split("\t"), strict=True))
                yield Record(number, {name: values[name] for name in columns}, line=number + 1)

    path = tmp_path / "train.pairs"
    path.write_text("good\ta bright story\nbad\ta dull one\n")
    assert isinstance(open_table(path), PairsTable)
    rows = list(TextFiles([path], key="data.train"))
    assert [(row.value, row.label) for row in rows] == [
        ("a bright story", "good"),
        ("a dull one", "bad"),
    ]


@pytest.fixture
def registered_for_now() -> Iterator[None]:
    """Remove the source and the poolings that a test registers."""
    sources, poolings = SOURCES.copy(), POOLINGS.copy()
    yield
    for registry, before in ((POOLINGS, poolings), (SOURCES, sources)):
        for name in registry.keys() - before:
            del registry[name]
    register_source(next(iter(sources.values())))  # builds the schema again


@pytest.mark.slow
def test_the_walkthroughs_in_contributing(
    run_script: Callable, registered_for_now: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source and a pooling each need only a registration and a YAML file to become options."""
    pages = Path(__file__).parents[1] / "CONTRIBUTING.md"
    for name, content in re.findall(
        r'^```\w+ title="(.+?)"\n(.+?)^```$', pages.read_text(), re.M | re.S
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    run = partial(run_script, tmp_path / "program.py", "--config-dir=conf", "data=poems")
    shown = run("--help").out
    assert "data.num_lines=3" in shown
    assert "lines of a poem" in shown
    mistyped = run("data.num_line=4")
    assert mistyped.code == 2
    assert mistyped.err == "error: unknown key data.num_line: did you mean data.num_lines?\n"
    settings = ["trainer.max_epochs=1", "validation=holdout", "refit=false", "baseline=none"]
    trained = run("model/pooling=first", "callbacks.figures=null", *settings)
    assert trained.code == 0, trained.err
    (checkpoint,) = tmp_path.glob("runs/poems/*/checkpoints/best.ckpt")
    config = torch.load(checkpoint, weights_only=True)["hyper_parameters"]["config"]
    assert config["data"]["num_lines"] == 3
    assert config["model"]["pooling"] == ["first"]


def test_a_kind_of_series_file(readers: dict[str, type], tmp_path: Path) -> None:
    @register_reader(".ramps")
    class RampsFile(SeriesFile):
        """Numbers, each standing for a ramp of that many steps."""

        def _read_header(self, needs_labels: bool) -> None:
            self.label_names = ["up"]

        def _contents(self) -> Iterator[tuple[None, str]]:
            for length in self.path.read_text().split():
                yield None, length

        def _parse(self, content: str) -> tuple[np.ndarray, str]:
            if content == "0":
                raise RowProblemError("no steps")
            return np.arange(float(content)).reshape(-1, 1), "up"

    path = tmp_path / "train.RAMPS"
    path.write_text("3 0 5")
    assert is_series_file(path)
    source = SeriesFiles([path], key="data.train")
    assert source.label_names == ["up"]
    found = [(row.file, row.number, row.label, row.problem) for row in source]
    assert found == [
        ("train.RAMPS", 0, "up", None),
        ("train.RAMPS", 1, None, "no steps"),
        ("train.RAMPS", 2, "up", None),
    ]
    with pytest.raises(UserError, match=r"save it as one of \.csv, .*\.tsv, .*\.xlsx \(JSON"):
        open_table(path)


def test_a_module_in_the_package_is_found_without_an_import(
    readers: dict[str, type], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "new_kind.py").write_text(
        "from attnlstm.data.formats import register_reader\n"
        "from attnlstm.data.formats.ts_file import TsFile\n"
        "register_reader('.new')(TsFile)\n"
    )
    assert not is_series_file(tmp_path / "a.new")
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path)])
    opening.import_readers.cache_clear()
    assert is_series_file(tmp_path / "a.new")
