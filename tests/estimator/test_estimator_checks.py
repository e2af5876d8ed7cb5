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

ONE_EPOCH = [*SMALL, "trainer.max_epochs=1", "data.batch_size=64"]

LEARNING = [*SMALL, "model/stem=inception", "model.lstm.hidden_size=8", "trainer.max_epochs=10"]
"""Enough for the series of `check_regressors_train`, in which only one step matters."""

SKIPPED_FOR_NUMBERS = {
    "invariance": "asks for 1e-7, less than the rounding of float32; see test_regressor",
    "check_regressors_train(readonly_memmap": "check_readonly_memmap_input has a smaller fit",
}

ONE_COLUMN = "y has one column, and rows of several classes need two or more"

ONE_COLUMN_CHECKS = (
    *("check_fit_score_takes_y", "check_estimators_overwrite_params", "check_dict_unchanged"),
    *("check_dont_overwrite_parameters", "check_estimators_fit_returns_self"),
    *("check_readonly_memmap_input", "check_n_features_in_after_fitting", "check_fit_idempotent"),
    *("check_positive_only_tag_during_fit", "check_estimators_dtypes", "check_dtype_object"),
    *("check_pipeline_consistency", "check_estimators_nan_inf", "check_estimators_pickle"),
    *("check_f_contiguous_array_estimator", "check_classifier_data_not_an_array"),
    *("check_classifiers_classes", "check_classifiers_train"),
    *("check_classifiers_regression_target", "check_classifier_not_supporting_multiclass"),
    *("check_methods_sample_order_invariance", "check_methods_subset_invariance"),
    *("check_fit2d_1feature", "check_fit_check_is_fitted"),
    *("check_n_features_in", "check_fit2d_predict1d"),
)


def list_inapplicable(estimator: Any) -> dict[str, str]:
    """Return the reason why an estimator cannot pass a check, by the name of the check."""
    if isinstance(estimator, attnlstm.AttentionLSTMMultilabelClassifier):
        thresholds = {"check_classifier_multioutput": "expects thresholds of 0.5 for all classes"}
        return dict.fromkeys(ONE_COLUMN_CHECKS, ONE_COLUMN) | thresholds
    return {}


@parametrize_with_checks(
    [
        attnlstm.AttentionLSTMClassifier(SMALL),
        attnlstm.AttentionLSTMMultilabelClassifier(ONE_EPOCH),
        attnlstm.AttentionLSTMRegressor(ONE_EPOCH),
    ],
    expected_failed_checks=list_inapplicable,
    xfail_strict=True,
)
def test_scikit_learns_checks(estimator: Any, check: Any, request: pytest.FixtureRequest) -> None:
    if isinstance(estimator, attnlstm.AttentionLSTMRegressor):
        for name, reason in SKIPPED_FOR_NUMBERS.items():
            if name in request.node.name:
                pytest.skip(reason)
        if "check_regressors_train" in request.node.name:
            estimator.set_params(overrides=LEARNING)
    check(estimator)


@parametrize_with_aeon_checks(
    [attnlstm.AeonAttentionLSTMClassifier, attnlstm.AeonAttentionLSTMRegressor]
)
def test_aeons_checks(check: Any) -> None:
    check()
