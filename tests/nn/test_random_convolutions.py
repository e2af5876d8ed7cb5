"""Fixed convolutions against plain loops, and the ridge regression against scikit-learn."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.preprocessing import StandardScaler

from attnlstm.nn import (
    LSTM,
    ClassifierEnsemble,
    RandomConvolutionClassifier,
    SequenceClassifier,
    build_pooling,
)
from attnlstm.nn.random_convolutions import choose_dilations
from attnlstm.nn.ridge import STRENGTHS, fit_ridge


def make_series(count: int, channels: int = 2, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(12, 30, count)
    return [generator.normal(size=(steps, channels)).astype(np.float32) for steps in lengths]


def make_classifier(series: list[np.ndarray], **options: int) -> RandomConvolutionClassifier:
    channels = series[0].shape[1]
    classifier = RandomConvolutionClassifier(channels, 3, [1, 2], num_thresholds=3, **options)
    classifier.fit_filters(series, seed=1)
    return classifier


def test_features_are_shares_above_thresholds() -> None:
    """Written out: padded dilated filters, and a ramp a tenth of the deviation wide."""
    series = make_series(8)
    classifier = make_classifier(series)
    steps = series[0].astype(np.float64)
    expected = []
    for number, dilation in enumerate((1, 2)):
        padded = np.pad(steps, ((4 * dilation, 4 * dilation), (0, 0)))
        for threshold in range(3):
            for row in range(84):
                kernel = classifier.kernels[number, row].double().numpy()  # [channel, 9]
                outputs = np.array(
                    [
                        (padded[t : t + 8 * dilation + 1 : dilation].T * kernel).sum()
                        for t in range(len(steps))
                    ]
                )
                slope = float(classifier.slopes[number, row])
                level = float(classifier.thresholds[number, row, threshold])
                expected.append(np.clip(slope * (outputs - level) + 0.5, 0, 1).mean())
    found = classifier.features(torch.from_numpy(series[0]).unsqueeze(0)).squeeze(0)
    order = torch.from_numpy(np.array(expected)).float()
    torch.testing.assert_close(found, order, atol=1e-4, rtol=0)


def test_the_filters_are_those_of_minirocket() -> None:
    classifier = make_classifier(make_series(4, channels=5))
    for row, twos in enumerate(combinations(range(9), 3)):
        kernel = classifier.kernels[0, row]
        is_read = kernel.abs().sum(dim=1) > 0
        assert 1 <= int(is_read.sum()) <= 5
        for channel in kernel[is_read]:
            assert channel.nonzero().numel() == 9
            assert tuple((channel == 2).nonzero().flatten().tolist()) == twos
            assert set(channel.tolist()) == {2.0, -1.0}


def test_thresholds_split_the_training_outputs() -> None:
    series = make_series(20)
    classifier = make_classifier(series)
    means = torch.stack(
        [classifier.features(torch.from_numpy(row).unsqueeze(0)).squeeze(0) for row in series]
    ).mean(dim=0)
    assert 0.4 < float(means.mean()) < 0.6  # quantiles, evenly spread
    assert float(means.std()) > 0.2


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), extra=st.integers(0, 20), padding=st.sampled_from([0.0, np.nan]))
def test_other_series_and_padding_change_nothing(seed: int, extra: int, padding: float) -> None:
    series = make_series(5, seed=seed)
    classifier = make_classifier(series)
    classifier.weight.normal_(generator=torch.Generator().manual_seed(seed))
    longest = max(map(len, series)) + extra
    batch = torch.full((5, longest, 2), padding)
    for row, steps in enumerate(series):
        batch[row, : len(steps)] = torch.from_numpy(steps)
    together = classifier(batch, [len(steps) for steps in series])
    for row, steps in enumerate(series):
        alone = classifier(torch.from_numpy(steps).unsqueeze(0))
        torch.testing.assert_close(together[row : row + 1], alone, atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize(("rows", "features", "classes"), [(30, 80, 2), (60, 20, 4), (12, 200, 3)])
def test_ridge_equals_scikit_learns(rows: int, features: int, classes: int) -> None:
    generator = np.random.default_rng(rows)
    targets = np.arange(rows) % classes
    inputs = generator.normal(size=(rows, features)) + 0.5 * np.eye(classes, features)[targets]
    inputs[:, 0] = 3.0  # a constant feature
    scaler = StandardScaler().fit(inputs)
    theirs = RidgeClassifierCV(STRENGTHS.numpy()).fit(scaler.transform(inputs), targets)
    ours = fit_ridge(torch.from_numpy(inputs), torch.from_numpy(targets), classes)
    others = generator.normal(size=(50, features))
    others[:, 0] = 3.0
    expected = theirs.decision_function(scaler.transform(others))
    found = (torch.from_numpy(others) @ ours.weight + ours.bias).numpy()
    if classes == 2:
        np.testing.assert_allclose(np.sign(found[:, 1] - found[:, 0]), np.sign(expected))
        found, expected = found[:, 1:], expected[:, None]
    ratio = found / expected  # one factor turns all scores into logits
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-6)
    assert ratio.mean() > 0


def test_ridge_of_numbers_equals_scikit_learns() -> None:
    generator = np.random.default_rng(5)
    inputs = generator.normal(size=(30, 80))
    targets = inputs[:, :2] * 3 + generator.normal(size=(30, 2)) + 100
    scaler = StandardScaler().fit(inputs)
    theirs = RidgeCV(STRENGTHS.numpy()).fit(scaler.transform(inputs), targets)
    ours = fit_ridge(torch.from_numpy(inputs), torch.from_numpy(targets), 2, "regression")
    others = generator.normal(size=(50, 80))
    found = (torch.from_numpy(others) @ ours.weight + ours.bias).numpy()
    np.testing.assert_allclose(found, theirs.predict(scaler.transform(others)), rtol=1e-6)


def test_ridge_of_several_classes_is_one_ridge_a_class() -> None:
    generator = np.random.default_rng(6)
    inputs = torch.from_numpy(generator.normal(size=(40, 60)))
    targets = (inputs[:, :3] + 0.5 * torch.from_numpy(generator.normal(size=(40, 3))) > 0).long()
    ours = fit_ridge(inputs, targets, 3, "multilabel")
    scores = inputs @ ours.weight + ours.bias
    assert ((scores > 0) == (targets == 1)).float().mean() > 0.9
    goals = fit_ridge(inputs, 2.0 * targets - 1, 3, "regression")  # the same without a factor
    ratio = scores / (inputs @ goals.weight + goals.bias)
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio))
    assert ratio.mean() > 0


def test_ridge_needs_two_rows() -> None:
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        fit_ridge(torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64), 2)


def test_an_expert_that_is_not_trained_is_left_out_in_training() -> None:
    torch.manual_seed(0)
    series = make_series(6)
    expert = make_classifier(series)
    expert.weight.normal_()
    lstm = LSTM(2, 4, batch_first=True)
    classifier = SequenceClassifier(lstm, build_pooling("hn_query", 4), 3, expert=expert)
    inputs = torch.from_numpy(series[0]).unsqueeze(0)
    assert classifier(inputs).experts == ()
    answer = classifier.eval()(inputs)
    torch.testing.assert_close(answer.logits, sum(answer.experts) / 2)
    torch.testing.assert_close(answer.experts[1], expert(inputs))
    assert [name for name, _ in classifier.named_parameters() if "expert" in name] == []


@pytest.mark.parametrize(
    ("longest", "dilations"), [(3, [1]), (9, [1]), (17, [1, 2]), (400, [1, 2, 4, 8, 16, 32])]
)
def test_the_widest_filter_fits_into_the_longest_series(longest: int, dilations: list[int]) -> None:
    assert choose_dilations(longest) == dilations


@pytest.mark.parametrize("dilations", [[], [0], [5000]])
def test_impossible_dilations_are_rejected(dilations: list[int]) -> None:
    with pytest.raises(ValueError, match="dilations should be from 1 to 4096"):
        RandomConvolutionClassifier(1, 2, dilations, 1)


def test_large_batches_are_computed_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    series = make_series(5)
    classifier = make_classifier(series)
    inputs = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in series], True)
    lengths = [len(row) for row in series]
    whole = classifier.features(inputs, lengths)
    monkeypatch.setattr("attnlstm.nn.random_convolutions.NUMBERS_AT_ONCE", 84 * inputs.size(1) * 2)
    torch.testing.assert_close(classifier.features(inputs, lengths), whole)


def test_features_are_not_computed_in_half_precision() -> None:
    series = make_series(3)
    classifier = make_classifier(series)
    inputs = torch.from_numpy(series[0]).unsqueeze(0)
    with torch.autocast("cpu", torch.bfloat16):
        found = classifier.features(inputs)
    torch.testing.assert_close(found, classifier.features(inputs))


def test_an_ensemble_computes_shared_features_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    series = make_series(4)
    members = []
    for _ in range(3):
        expert = make_classifier(series)
        expert.weight.normal_()
        lstm = LSTM(2, 4, batch_first=True)
        pooling = build_pooling("hn_query", 4)
        members.append(SequenceClassifier(lstm, pooling, 3, expert=expert).eval())
    inputs = torch.from_numpy(series[0]).unsqueeze(0)
    expected = torch.stack([member(inputs).logits.softmax(dim=1) for member in members]).mean(dim=0)
    calls = []
    features = RandomConvolutionClassifier.features
    monkeypatch.setattr(
        RandomConvolutionClassifier,
        "features",
        lambda self, *args: calls.append(1) or features(self, *args),
    )
    ensemble = ClassifierEnsemble(members).eval()
    torch.testing.assert_close(ensemble(inputs).logits.exp(), expected)
    assert len(calls) == 1
    members[1].expert.fit_filters(
        make_series(4, seed=9), seed=3
    )  # now its features differ, and none are shared
    ensemble(inputs)
    assert len(calls) == 4
