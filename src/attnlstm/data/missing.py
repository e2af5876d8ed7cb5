"""Values that series lack: padding at the end, and gaps inside."""

import numpy as np


def trim_padding(series: np.ndarray) -> np.ndarray:
    """Return a series `[time, channel]` without the last steps that are NaN in all channels."""
    if not len(series) or not np.isnan(series[-1]).all():
        return series
    has_value = ~np.isnan(series).all(axis=1)  # [time]
    return series[: len(series) - int(has_value[::-1].argmax())] if has_value.any() else series[:0]


def interpolate(series: np.ndarray) -> np.ndarray:
    """Fill the missing values of a series `[time, channel]`, linearly along time per channel.

    Before the first and after the last value of a channel, the nearest value counts. A channel
    without any value stays missing.
    """
    is_missing = np.isnan(series)
    if not is_missing.any():
        return series
    filled, steps = series.copy(), np.arange(len(series))
    for channel in np.flatnonzero(is_missing.any(axis=0) & ~is_missing.all(axis=0)):
        gaps = is_missing[:, channel]
        filled[gaps, channel] = np.interp(steps[gaps], steps[~gaps], series[~gaps, channel])
    return filled
