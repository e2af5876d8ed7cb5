"""The heads of the tasks against their formulas, and the mean of several predictions."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from attnlstm.config.data import Task as ConfigTask
from attnlstm.nn import CumulativeHead
from attnlstm.nn.head import TargetScale, Task, average, build_head, predict


def test_the_names_of_the_tasks_are_those_of_the_configuration() -> None:
    assert Task == ConfigTask


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_cumulative_probabilities_are_those_of_the_formula(num_classes: int) -> None:
    torch.manual_seed(num_classes)
    head = CumulativeHead(4, num_classes).double()
    for parameter in head.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    context = 3 * torch.randn(50, 4, dtype=torch.float64)
    first = 20 * head.first
    thresholds = torch.cat([first, first + F.softplus(20 * head.gaps).cumsum(0)])
    above = torch.sigmoid(context @ head.score.weight.T - thresholds)  # P(class > k)
    ends = torch.ones(50, 1, dtype=torch.float64)
    expected = -torch.cat([ends, above, 0 * ends], dim=1).diff(dim=1)
    torch.testing.assert_close(head(context).exp(), expected)
    torch.testing.assert_close(head(context).exp().sum(dim=1), ends[:, 0])


def test_a_new_cumulative_head_favors_no_class() -> None:
    head = CumulativeHead(4, 5)
    torch.testing.assert_close(head(torch.zeros(1, 4)).exp(), torch.full((1, 5), 0.2))


def test_far_scores_have_finite_log_probabilities_and_gradients() -> None:
    head = CumulativeHead(1, 5)
    head.score.weight.data.fill_(1.0)
    context = torch.tensor([[-500.0], [500.0]], requires_grad=True)
    log_p = head(context)
    assert log_p.isfinite().all()
    assert log_p.argmax(dim=1).tolist() == [0, 4]
    log_p.sum().backward()
    assert context.grad is not None
    assert context.grad.isfinite().all()


@pytest.mark.parametrize("task", ["classification", "ordinal", "multilabel", "regression"])
def test_the_average_stands_for_the_mean_prediction(task: Task) -> None:
    torch.manual_seed(0)
    several = [4 * torch.randn(9, 3, dtype=torch.float64) for _ in range(4)]
    expected = torch.stack([predict(logits, task) for logits in several]).mean(dim=0)
    torch.testing.assert_close(predict(average(several, task), task), expected)
    assert average(several[:1], task) is several[0]


def test_a_scale_is_undone_by_standardizing() -> None:
    scale = TargetScale(2)
    targets = torch.tensor([[1e6, 0.1], [1e6 + 2, 0.3]], dtype=torch.float64)
    scale.fit(targets)
    torch.testing.assert_close(scale.standardize(targets), torch.tensor([[-1.0, -1], [1, 1]]))
    torch.testing.assert_close(scale(scale.standardize(targets)), targets.float())
    half = scale(torch.tensor([[1.0, 1.0]], dtype=torch.bfloat16))
    torch.testing.assert_close(half, targets[1:].float())  # bfloat16 would say 999,424


def test_only_ordinal_classes_have_a_head_of_their_own() -> None:
    assert isinstance(build_head("ordinal", 4, 3), CumulativeHead)
    for task in ("classification", "multilabel", "regression"):
        head = build_head(task, 4, 3)
        assert isinstance(head, torch.nn.Linear)
        assert (head.in_features, head.out_features) == (4, 3)
