"""scikit-learn's and aeon's own checks of estimators."""

from typing import Any

import pytest
from aeon.testing.estimator_checking import parametrize_with_checks as parametrize_with_aeon_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

import attnlstm

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("composed_once")]

SMALL = [
    *("trainer.max_epochs=4", "trainer.accelerator=cpu", "optimizer.lr=0.02"),
    *("model/stem=none", "model.lstm.hidden_size=4", "model.random_convolutions=null"),
    *("validation=holdout", "refit=false", "data.noise=0"),
]


@parametrize_with_checks([attnlstm.AttentionLSTMClassifier(SMALL)])
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@parametrize_with_aeon_checks([attnlstm.AeonAttentionLSTMClassifier])
def test_aeons_checks(check: Any) -> None:
    check()
