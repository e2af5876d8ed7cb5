"""An ensemble is the mean of its members."""

import pytest
import torch

from attnlstm.nn import LSTM, ClassifierEnsemble, SequenceClassifier, build_pooling


def build(pooling="hn_query", size=3):
    torch.manual_seed(0)
    members = []
    for _ in range(size):
        lstm = LSTM(4, 5, batch_first=True, bidirectional=True)
        pooled = build_pooling(pooling, lstm.feature_size)
        members.append(SequenceClassifier(lstm, pooled, num_classes=3))
    return ClassifierEnsemble(members).double(), members


INPUTS = torch.randn(6, 9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LENGTHS = torch.tensor([9, 1, 4, 9, 2, 7])


def test_it_is_the_mean_of_its_members():
    ensemble, members = build()
    logits, attention, _ = ensemble(INPUTS, LENGTHS)
    answers = [member(INPUTS, LENGTHS) for member in members]
    mean = sum(answer.logits.softmax(dim=1) for answer in answers) / 3
    torch.testing.assert_close(logits.exp(), mean)
    torch.testing.assert_close(attention, sum(answer.attention for answer in answers) / 3)
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(6, dtype=torch.float64))
    assert len({answer.logits.sum().item() for answer in answers}) == 3


def test_probabilities_near_zero_stay_finite():
    ensemble, members = build()
    with torch.no_grad():
        for member in members:
            member.head.weight.mul_(1e6)
    assert ensemble(INPUTS, LENGTHS).logits.isfinite().all()


def test_padding_changes_nothing():
    ensemble, _ = build()
    alone = torch.cat(
        [ensemble(row[None, :n], [n]).logits for row, n in zip(INPUTS, LENGTHS, strict=True)]
    )
    torch.testing.assert_close(ensemble(INPUTS, LENGTHS).logits, alone)


@pytest.mark.parametrize("pooling", ["mean", "last_state"])
def test_poolings_without_attention(pooling):
    assert build(pooling)[0](INPUTS, LENGTHS).attention is None


class Wrapped(torch.nn.Module):
    """A member in a wrapper, such as torch.compile makes."""

    def __init__(self, member):
        super().__init__()
        self.member = member
        self.expert = member.expert

    def forward(self, *arguments):
        return self.member(*arguments)


def test_a_wrapped_member_is_part_of_the_mean():
    ensemble, _ = build(size=2)
    expected = ensemble(INPUTS, LENGTHS).logits
    ensemble.members[1] = Wrapped(ensemble.members[1])
    torch.testing.assert_close(ensemble(INPUTS, LENGTHS).logits, expected)
