"""The losses of several classes and of numbers against torch's and their formulas."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from attnlstm.nn.head import TargetScale
from attnlstm.training.objective import Objective

OPTIONS = {
    "label_smoothing": 0.0,
    "focal_gamma": 0.0,
    "class_weights": "none",
    "huber_delta": 1.0,
}


def sample(count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(count, 3, generator=generator)
    return logits, (torch.rand(count, 3, generator=generator) < 0.3).to(torch.int8)


def test_several_classes_are_as_many_binary_classifications() -> None:
    logits, targets = sample()
    expected = F.binary_cross_entropy_with_logits(logits, targets.float())
    torch.testing.assert_close(
        Objective("multilabel", OPTIONS, [1, 1, 1])(logits, targets), expected
    )
    smoothed = Objective("multilabel", OPTIONS | {"label_smoothing": 0.2}, [1, 1, 1])
    expected = F.binary_cross_entropy_with_logits(logits, 0.1 + 0.8 * targets.float())
    torch.testing.assert_close(smoothed(logits, targets), expected)
    torch.testing.assert_close(
        smoothed.plain(logits, targets),
        F.binary_cross_entropy_with_logits(logits, targets.float()),
    )


def test_the_focal_loss_of_several_classes() -> None:
    logits, targets = sample()
    focal = Objective("multilabel", OPTIONS | {"focal_gamma": 2.0}, [1, 1, 1])
    p = logits.double().sigmoid()
    p = torch.where(targets == 1, p, 1 - p)  # of what is true
    expected = ((1 - p) ** 2 * -p.log()).mean()
    assert focal(logits, targets).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("delta", [None, 0.5])
def test_errors_are_in_standard_deviations(delta: float | None) -> None:
    generator = torch.Generator().manual_seed(1)
    targets = 1e5 + 300 * torch.randn(50, 2, generator=generator, dtype=torch.float64)
    scale = TargetScale(2)
    scale.fit(targets)
    numbers = (targets + 200 * torch.randn(50, 2, generator=generator)).float()
    error = (numbers.double() - targets) / targets.std(dim=0, correction=0)
    expected = (
        error.square()
        if delta is None
        else torch.where(error.abs() < delta, error.square() / 2, delta * (error.abs() - delta / 2))
    )
    loss = Objective("regression", OPTIONS | {"huber_delta": delta}, [50, 50])(
        numbers, targets, scale
    )
    assert loss.item() == pytest.approx(expected.mean().item(), rel=1e-4)
