"""The scores of a regression's numbers as they stream by."""

import numpy as np


class RegressionScores:
    """Sums over rows; all arrays are `[target]`.

    num_labelled: rows with true numbers.
    predicted: the smallest and the largest prediction, `[2, target]`.
    true: the same of the true numbers.
    """

    def __init__(self, num_targets: int) -> None:
        self.num_labelled = 0
        self.predicted = np.full((2, num_targets), np.nan)
        self.true = np.full((2, num_targets), np.nan)
        self._absolute = np.zeros(num_targets)  # the sum of the errors
        self._squared = np.zeros(num_targets)  # and of their squares
        self._mean = np.zeros(num_targets)  # of the true numbers
        self._variation = np.zeros(num_targets)  # the sum of squared differences from it

    def add(self, predicted: np.ndarray, true: np.ndarray | None) -> None:
        """Add the numbers of a row."""
        _widen(self.predicted, predicted)
        if true is None:
            return
        _widen(self.true, true)
        self.num_labelled += 1
        errors = np.abs(predicted - true)
        self._absolute += errors
        self._squared += errors**2
        # Welford (1962): a sum of squares would lose the digits of numbers far from 0.
        difference = true - self._mean
        self._mean += difference / self.num_labelled
        self._variation += difference * (true - self._mean)

    def compute(self) -> dict[str, np.ndarray]:
        """Return the MAE, the RMSE and R2, which is NaN if all true numbers are the same."""
        with np.errstate(divide="ignore", invalid="ignore"):
            variation = np.where(self._variation > 0, self._variation, np.nan)
            return {
                "mae": self._absolute / self.num_labelled,
                "rmse": np.sqrt(self._squared / self.num_labelled),
                "r2": 1 - self._squared / variation,
            }


def _widen(limits: np.ndarray, numbers: np.ndarray) -> None:
    limits[0] = np.fmin(limits[0], numbers)
    limits[1] = np.fmax(limits[1], numbers)
