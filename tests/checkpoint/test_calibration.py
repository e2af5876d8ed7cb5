"""Temperatures and prediction sets, compared with scipy and plain formulas."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.metrics import f1_score
from torch import Tensor
from torch.nn.functional import one_hot

from attnlstm.checkpoint.calibration import (
    Calibration,
    calibrated_predictions,
    conformal_scores,
    conformal_threshold,
    fit_calibration,
    fit_expert_weight,
    fit_temperature,
    fit_thresholds,
    in_prediction_set,
    pool_members,
    scores_needed,
    thin,
)
from attnlstm.checkpoint.load import load_checkpoint
from attnlstm.training.calibrate import calibrate, write_calibration
from attnlstm.training.module import restore_module

pytestmark = pytest.mark.slow


def sample(rows: int, classes: int, temperature: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return logits and targets drawn at this temperature."""
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(rows, classes, generator=generator)
    probabilities = (logits / temperature).softmax(dim=1)
    return logits, probabilities.multinomial(1, generator=generator).squeeze(1)


def objective(log_temperature: float, logits: Tensor, targets: Tensor) -> float:
    """Return the negative log likelihood of the rows and of a random row with a random class."""
    log_p = log_softmax(logits.double().numpy() / math.exp(log_temperature), axis=1)
    return -log_p[np.arange(len(log_p)), targets.numpy()].sum() - log_p.mean()


@pytest.mark.parametrize(("rows", "classes"), [(1, 3), (5, 2), (40, 9), (3000, 4)])
@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_the_temperature_maximizes_the_likelihood(rows: int, classes: int, true: float) -> None:
    logits, targets = sample(rows, classes, true, seed=rows)
    found = minimize_scalar(
        objective,
        bounds=(math.log(0.05), math.log(20)),
        args=(logits, targets),
        method="bounded",
        options={"xatol": 1e-10},
    )
    temperature = fit_temperature(logits, targets)
    assert math.log(temperature) == pytest.approx(found.x, abs=1e-5)
    if rows == 3000:
        assert temperature == pytest.approx(true, rel=0.1)


def draw_experts(rows: int, good: int) -> tuple[Tensor, Tensor]:
    """Return the logits of two experts, one of them (`good`) informative, and the targets."""
    logits, targets = sample(rows, 3, temperature=1.0, seed=rows)
    experts = torch.stack([logits, logits.flip(0)] if good == 0 else [logits.flip(0), logits], 1)
    return experts.unsqueeze(1), targets


@pytest.mark.parametrize("good", [0, 1])
def test_the_informative_expert_gets_the_weight(good: int) -> None:
    experts, targets = draw_experts(2000, good)
    weight = fit_expert_weight(experts, targets)
    assert weight == (0.05, 0.95)[good]
    few_rows = fit_expert_weight(experts[:4], targets[:4])
    assert abs(few_rows - 0.5) < abs(weight - 0.5)


def test_the_weight_maximizes_the_posterior() -> None:
    """The two experts have independent noise of different strength."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(4, (500,), generator=generator)
    true = 2 * one_hot(targets, 4)
    noise = [scale * torch.randn(500, 4, generator=generator) for scale in (0.7, 1.4)]
    experts = torch.stack([true + part for part in noise], dim=1).unsqueeze(1)

    def cost(weight: float) -> float:
        mixed = (1 - weight) * experts[:, 0, 0] + weight * experts[:, 0, 1]
        found = minimize_scalar(objective, bounds=(-3, 3), args=(mixed, targets), method="bounded")
        log_p = log_softmax(mixed.double().numpy() / math.exp(found.x), axis=1)
        prior = -math.log(weight) - math.log(1 - weight)
        return prior - log_p[np.arange(500), targets.numpy()].sum()

    found = minimize_scalar(cost, bounds=(0.01, 0.99), method="bounded")
    assert fit_expert_weight(experts, targets) == pytest.approx(found.x, abs=0.03)
    assert 0.1 < found.x < 0.4


def test_identical_experts_have_equal_weights() -> None:
    logits, targets = sample(50, 3, temperature=1.0, seed=0)
    experts = torch.stack([logits, logits], dim=1).unsqueeze(1)
    assert fit_expert_weight(experts, targets) == 0.5


def test_members_pool_their_experts_before_their_probabilities_are_averaged() -> None:
    experts = torch.randn(5, 3, 2, 4, dtype=torch.float64)
    mixed = 0.3 * experts[:, :, 0] + 0.7 * experts[:, :, 1]
    expected = mixed.softmax(dim=2).mean(dim=1)
    torch.testing.assert_close(pool_members(experts, 0.7).softmax(dim=1), expected)


def test_the_temperature_is_always_bounded() -> None:
    eye = 3 * torch.eye(4)
    everything_right = fit_temperature(eye.repeat(10, 1), torch.arange(4).repeat(10))
    probabilities = (eye[0] / everything_right).softmax(dim=0)
    # the accuracy on the 40 rows and one that is right by chance
    assert probabilities[0].item() == pytest.approx((40 + 1 / 4) / 41, abs=1e-6)
    assert fit_temperature(eye, torch.tensor([1, 2, 3, 0])) == pytest.approx(20)  # all wrong
    assert fit_temperature(1e4 * eye, torch.tensor([0, 1, 2, 3])) == pytest.approx(20)
    assert fit_temperature(1e-4 * eye, torch.tensor([0, 1, 2, 3])) == pytest.approx(0.05)
    assert fit_temperature(torch.zeros(5, 3), torch.tensor([0, 1, 2, 0, 1])) == 1
    assert fit_temperature(torch.full((2, 1), 7.0), torch.tensor([0, 0])) == 1  # a single class
    assert 0.05 <= fit_temperature(eye[:1], torch.tensor([0])) <= 20
    assert fit_temperature(eye.half(), torch.arange(4)) == fit_temperature(eye, torch.arange(4))


@pytest.mark.parametrize("logits", [torch.empty(0, 3), torch.tensor([[0.0, math.nan, 1.0]])])
def test_a_temperature_needs_finite_logits(logits: Tensor) -> None:
    with pytest.raises(ValueError, match="at least one row, and finite logits"):
        fit_temperature(logits, torch.zeros(len(logits), dtype=torch.int64))


def test_calibrated_probabilities_match_the_accuracy() -> None:
    logits, targets = sample(20_000, 3, temperature=2.0, seed=1)
    fitted, rest = slice(0, 5_000), slice(5_000, None)
    temperature = fit_temperature(logits[fitted], targets[fitted])
    for scale, most in ((temperature, 0.02), (1.0, None)):
        confidence, predictions = (logits[rest] / scale).softmax(dim=1).max(dim=1)
        is_right = predictions == targets[rest]
        gaps = []
        for low in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
            bin_ = (confidence >= low) & (confidence < low + 0.1)
            gaps.append((confidence[bin_].mean() - is_right[bin_].float().mean()).item())
        if most is None:
            assert min(gaps) > 0.05  # overconfident everywhere
        else:
            assert max(map(abs, gaps)) < 0.04
            assert abs(np.mean(gaps)) < most


def test_scores_and_sets_equal_their_formulas() -> None:
    logits, targets = sample(50, 4, temperature=1.5, seed=2)
    p = np.exp(log_softmax(logits.double().numpy() / 1.5, axis=1))
    scores = conformal_scores(logits, targets, 1.5)
    assert scores.numpy() == pytest.approx(1 - p[np.arange(50), targets.numpy()], abs=1e-6)

    for coverage, rank in ((0.9, 46), (0.5, 26), (0.98, 50)):  # ceil(51 coverage)
        threshold = conformal_threshold(thin(scores), coverage)
        assert threshold == np.sort(scores.numpy())[rank - 1]
        sets = in_prediction_set(calibrated_predictions(logits, 1.5), threshold).numpy()
        certain = np.abs(1 - p - threshold) > 1e-6  # not decided by rounding
        wanted = (1 - p <= threshold) | (p == p.max(axis=1, keepdims=True))
        assert (sets == wanted)[certain].all()
        # the rows whose own score is at most the threshold are covered
        assert sets[np.arange(50), targets.numpy()].sum() >= rank


@pytest.mark.parametrize(
    ("coverage", "needed"), [(0.9, 9), (0.95, 19), (0.99, 99), (0.5, 1), (0.7, 3), (0.123, 1)]
)
def test_too_few_scores_give_sets_of_all_classes(coverage: float, needed: int) -> None:
    assert scores_needed(coverage) == needed
    probabilities = torch.tensor([[0.7, 0.3, 0.0]], dtype=torch.float64)
    too_few = conformal_threshold(torch.zeros(needed - 1), coverage)
    assert in_prediction_set(probabilities, too_few).tolist() == [[True, True, True]]
    enough = conformal_threshold(torch.full((needed,), 0.1), coverage)
    assert enough == pytest.approx(0.1)


def test_no_set_is_empty() -> None:
    probabilities = torch.tensor([[0.4, 0.3, 0.3], [0.05, 0.95, 0.0]], dtype=torch.float64)
    sets = in_prediction_set(probabilities, threshold=0.1)
    assert sets.tolist() == [[True, False, False], [False, True, False]]


@pytest.mark.parametrize("rows", [100, 101, 199, 1234])
def test_thinned_scores_keep_the_guarantee(rows: int) -> None:
    scores = torch.rand(rows, dtype=torch.float64, generator=torch.Generator().manual_seed(rows))
    ordered, kept = scores.sort().values, thin(scores, most=100)
    assert len(kept) == 100
    assert torch.equal(kept, kept.sort().values)
    assert torch.isin(kept, scores).all()
    for coverage in (0.05, 0.5, 0.77, 0.9, 0.95, 0.99):
        exact, threshold = (conformal_threshold(part, coverage) for part in (ordered, kept))
        assert exact <= threshold <= exact + 0.1


def test_sets_have_the_requested_coverage() -> None:
    """Measured over many draws of validation rows from a highly overconfident model."""
    generator, covered, sizes = torch.Generator().manual_seed(3), [], []
    for draw in range(100):
        logits, targets = sample(130, 5, temperature=4.0, seed=100 + draw)
        order = torch.randperm(130, generator=generator)
        logits, targets = logits[order], targets[order]
        temperature, _, scores, _ = fit_calibration(logits[:30], targets[:30])
        probabilities = calibrated_predictions(logits[30:], temperature)
        sets = in_prediction_set(probabilities, conformal_threshold(scores, 0.8))
        covered += sets.gather(1, targets[30:].unsqueeze(1)).squeeze(1).tolist()
        sizes += sets.sum(dim=1).tolist()
    # ceil(31 * 0.8) / 31 = 0.806 is expected; one draw's coverage has a deviation of 0.08
    assert np.mean(covered) == pytest.approx(0.806, abs=4 * 0.08 / 10)
    assert np.mean(sizes) < 4


def test_a_calibration_changes_nothing_else_in_the_checkpoint(
    small_checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "best.ckpt"
    path.write_bytes(small_checkpoint.read_bytes())
    before = torch.load(path, weights_only=True)
    wanted = Calibration(1.25, 0.75, torch.tensor([0.25, 0.5], dtype=torch.float64))
    write_calibration(path, wanted)
    after = torch.load(path, weights_only=True)
    trained = load_checkpoint(path)  # which checks the seal
    module = restore_module(trained)
    assert trained.calibration.temperature == module.temperature == 1.25
    assert torch.equal(trained.calibration.scores, wanted.scores)
    assert trained.classifier.expert_weight == module.classifier.expert_weight == 0.75
    assert before.keys() == after.keys()
    for name, weight in before["state_dict"].items():
        assert torch.equal(after["state_dict"][name], weight)
    assert before["hyper_parameters"] == after["hyper_parameters"]
    assert [file.name for file in tmp_path.iterdir()] == ["best.ckpt"]


@pytest.mark.parametrize(
    ("logits", "reason"),
    [
        (torch.empty(0, 0), "no validation rows"),
        (torch.full((2, 9), math.inf), "a validation row's logits are not finite"),
    ],
)
def test_a_missing_calibration_is_explained(
    caplog: pytest.LogCaptureFixture, logits: Tensor, reason: str
) -> None:
    targets = torch.zeros(len(logits), dtype=torch.int64)
    experts = torch.empty(len(logits), 0, 2, 9)
    assert calibrate(logits, experts, targets) is None
    assert f"not calibrated: {reason}" in caplog.text


def test_thresholds_have_the_best_f1_of_each_class() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(200, 3, generator=generator) < torch.tensor([0.5, 0.1, 0.0])).long()
    p = (0.35 * targets + 0.6 * torch.rand(200, 3, generator=generator)).double()
    found = fit_thresholds(p, targets)
    grid = np.arange(1, 20) / 20
    for place in range(2):
        scores = [f1_score(targets[:, place], p[:, place] >= step) for step in grid]
        best = f1_score(targets[:, place], p[:, place] >= found[place])
        assert best == pytest.approx(max(scores))
    assert found[2] == 0.5  # a class without a row


def test_one_temperature_for_all_classes_of_a_row() -> None:
    generator = torch.Generator().manual_seed(0)
    honest = 2 * torch.randn(4000, 3, generator=generator)
    targets = (torch.rand(4000, 3, generator=generator) < honest.sigmoid()).to(torch.int8)
    assert fit_temperature(3 * honest, targets, "multilabel") == pytest.approx(3, rel=0.1)


def test_intervals_have_the_requested_coverage() -> None:
    """Split conformal prediction: on average over draws of the validation and test rows."""
    generator = torch.Generator().manual_seed(0)
    inside, tested = 0, 0
    for _ in range(60):
        numbers = torch.randn(130, 2, generator=generator, dtype=torch.float64)
        targets = numbers + torch.tensor([0.1, 5.0]) * torch.randn(130, 2, generator=generator)
        scores = fit_calibration(numbers[:30], targets[:30], task="regression").scores
        assert scores.shape == (30, 2)
        for place in range(2):
            half = conformal_threshold(scores[:, place], 0.8)
            inside += int(((numbers - targets)[30:, place].abs() <= half).sum())
            tested += 100
    assert 0.78 < inside / tested < 0.84


def test_the_weight_of_the_better_expert_is_larger_for_every_task() -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(300, 2, generator=generator)
    cases = {"regression": numbers.double(), "multilabel": (numbers > 0).to(torch.int8)}
    for task, targets in cases.items():
        poor = numbers + 3 * torch.randn(300, 2, generator=generator)
        good = numbers + 0.1 * torch.randn(300, 2, generator=generator)
        experts = torch.stack([poor, good], dim=1).unsqueeze(1)  # [row, member, 2, class]
        assert fit_expert_weight(experts, targets, task) > 0.7
