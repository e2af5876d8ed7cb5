"""validation=folds: each training row is validated by the one member that has never seen it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from attnlstm.cli.composition import compose_config
from attnlstm.config.checks import validate
from attnlstm.config.schema import EvaluateConfig, TrainConfig
from attnlstm.data.batches import SequenceBatch
from attnlstm.data.encoders.series import SeriesEncoder
from attnlstm.errors import UserError
from attnlstm.inference.evaluation import evaluate
from attnlstm.training.module import ClassificationModule
from attnlstm.training.optimization import build_optimizer
from attnlstm.training.run import train

pytestmark = pytest.mark.slow

CONF = Path(__file__).parents[2] / "conf"

LENGTHS = torch.tensor([20, 7, 13, 1, 20, 5, 9, 20, 2, 16, 11, 20])
FOLDS = torch.arange(12) % 3
SMALL = [
    *("model.lstm.hidden_size=4", "model.stem.num_filters=6", "model.stem.stride=2"),
    "model.random_convolutions=null",
]


@pytest.fixture
def make_module() -> Callable[..., ClassificationModule]:
    """An untrained ensemble of three members, for 12 rows of 2 channels and 3 classes."""

    def make(*overrides: str, folds: torch.Tensor | None = FOLDS) -> ClassificationModule:
        values = [*SMALL, "model.ensemble_size=3", *overrides]
        config = compose_config(CONF, "train", TrainConfig, values)
        encoder = SeriesEncoder.fit([np.zeros((1, 2))]).to_dict()
        torch.manual_seed(0)
        return ClassificationModule(
            config.model_dump(), ["a", "b", "c"], [4, 4, 4], encoder, ["train"], folds
        )

    return make


@pytest.fixture
def inputs() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    steps = torch.randn(12, 20, 2, generator=generator)
    return steps.masked_fill((torch.arange(20) >= LENGTHS.unsqueeze(1)).unsqueeze(2), 0)


def batch_of(inputs: torch.Tensor, rows: list[int]) -> SequenceBatch:
    chosen = torch.tensor(rows)
    lengths = LENGTHS[chosen]
    return SequenceBatch(inputs[chosen, : int(lengths.max())], lengths, chosen % 3, chosen)


def train_a_little(module: ClassificationModule, inputs: torch.Tensor) -> None:
    """A few steps, with dropout; one batch has rows of one fold only."""
    optimizer = build_optimizer(module.parameters(), module.config["optimizer"])
    module.train()
    torch.manual_seed(1)
    for rows in ([0, 1, 2, 5, 7], [3, 4, 8, 11, 10], [6, 9, 3], [1, 4, 0, 7, 2]):
        optimizer.zero_grad()
        module.training_loss(batch_of(inputs, rows)).backward()
        optimizer.step()


@pytest.mark.parametrize("stem", ["conv", "inception"])
@pytest.mark.parametrize("fold", [0, 2])
def test_a_member_never_sees_the_rows_of_its_fold(
    make_module: Callable, inputs: torch.Tensor, stem: str, fold: int
) -> None:
    first, second = (make_module(f"model/stem={stem}") for _ in range(2))
    train_a_little(first, inputs)
    others = torch.where((fold == FOLDS).view(-1, 1, 1), inputs.flip(1) + 1, inputs)
    train_a_little(second, others)
    for number, (one, two) in enumerate(zip(first.members, second.members, strict=True)):
        states = list(zip(one.state_dict().values(), two.state_dict().values(), strict=True))
        same = [torch.equal(*pair) for pair in states]  # running statistics among them
        assert all(same) if number == fold else not any(same[:3])


def test_without_folds_every_member_sees_every_row(
    make_module: Callable, inputs: torch.Tensor
) -> None:
    first, second = (make_module("model/stem=conv", folds=None) for _ in range(2))
    train_a_little(first, inputs)
    train_a_little(second, torch.where((FOLDS == 0).view(-1, 1, 1), inputs + 1, inputs))
    for one, two in zip(first.members, second.members, strict=True):
        assert not torch.equal(one.head.weight, two.head.weight)


def test_a_row_is_validated_by_the_member_that_has_not_seen_it(
    make_module: Callable, inputs: torch.Tensor
) -> None:
    module = make_module("model/stem=conv")
    train_a_little(module, inputs)
    module.eval()
    module.log = lambda *_, **__: None  # there is no trainer to log to
    for rows in ([*range(12)], [7, 1, 4, 10], [11, 3, 2, 0, 5]):  # the second: of fold 1 alone
        with torch.no_grad():
            answer = module.validation_step(batch_of(inputs, rows), 0)
            for place, row in enumerate(rows):
                length = int(LENGTHS[row])
                alone = module.members[FOLDS[row]](inputs[row : row + 1, :length])
                torch.testing.assert_close(answer["logits"][place], alone.logits[0])
                attention = answer["attention"][place]
                torch.testing.assert_close(attention[:length], alone.attention[0])
                assert (attention[length:] == 0).all()
    tested = module.test_step(batch_of(inputs, [0, 1]), 0)  # all of them answer together
    together = module.classifier(inputs[:2], LENGTHS[:2])
    torch.testing.assert_close(tested["logits"], together.logits)


def test_the_loss_is_the_mean_of_the_members_on_their_own_rows(
    make_module: Callable, inputs: torch.Tensor
) -> None:
    module = make_module("model/stem=conv", "model.dropout=0")
    rows = [0, 1, 2, 5, 7, 8]
    losses = []
    for fold, member in enumerate(module.members):
        mine = batch_of(inputs, [row for row in rows if FOLDS[row] != fold])
        losses.append(module.compute_loss(member(mine.inputs, mine.lengths).logits, mine.targets))
    loss = module.training_loss(batch_of(inputs, rows))
    torch.testing.assert_close(loss, torch.stack(losses).mean())


def test_a_run_by_folds(
    run_train: Callable,
    text_files: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    options = [*text_files, "validation=folds", "num_folds=3", "refit=true"]
    result = run_train(tmp_path / "run", *options, "trainer.max_epochs=1")
    assert "no refit: with validation=folds all rows are trained on already" in caplog.text
    assert result.module.folds.shape == (60,)
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (config["validation"], config["model"]["ensemble_size"]) == ("folds", 3)
    assert result.checkpoint is not None

    def evaluated(**options: Any) -> Any:
        config = validate({"ckpt": str(result.checkpoint), "data": options}, EvaluateConfig)
        return evaluate(config, tmp_path / "evaluated")

    assert evaluated().metrics == pytest.approx(result.metrics, abs=1e-5)
    with pytest.raises(UserError, match="validated on its training rows in turn"):
        evaluated(split="validation")
    test = next(item for item in text_files if item.startswith("data.test=")).partition("=")[2]
    given = evaluated(split="validation", validation=test)
    assert len(given.targets) == 20
    assert given.metrics["val/loss"] == pytest.approx(result.metrics["test/loss"], abs=1e-5)


def test_folds_and_a_validation_file_contradict_each_other(
    run_train: Callable, text_files: list[str], tmp_path: Path
) -> None:
    test = next(item for item in text_files if item.startswith("data.test="))
    given = test.replace("data.test=", "data.validation=")
    with pytest.raises(UserError, match=r"validation=folds .* leave data.validation out"):
        run_train(tmp_path, *text_files, given, "validation=folds")


def test_too_few_rows_for_the_fixed_convolutions(tmp_path: Path) -> None:
    path = tmp_path / "walks.npz"
    np.savez(path, X=np.random.default_rng(0).normal(size=(3, 20, 2)), y=["a", "b", "a"])
    files = [f"data.train={path}", f"data.test={path}", "data.axes=row,time,channel"]
    given = ["data=series_files", *files, *SMALL[:-1]]
    config = compose_config(CONF, "train", TrainConfig, [*given, "num_folds=2"])
    with pytest.raises(UserError, match="at least 2 rows, and of 3 training rows a model has 1"):
        train(config, tmp_path / "run")
