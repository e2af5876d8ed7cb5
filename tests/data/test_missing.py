import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from attnlstm.data.missing import interpolate, trim_padding

NAN = np.nan
VALUES = st.sampled_from([NAN, NAN, 0.0, 1.0, -2.5, 7.0])


@pytest.mark.parametrize(
    ("series", "length"),
    [
        ([[1, 2], [NAN, NAN]], 1),
        ([[1, 2], [NAN, 3]], 2),
        ([[NAN, NAN], [1, 2]], 2),
        ([[1, 2], [NAN, NAN], [3, 4], [NAN, NAN], [NAN, NAN]], 3),
        ([[NAN, NAN]], 0),
        ([[1, 2]], 1),
        (np.empty((0, 2)), 0),
    ],
)
def test_padding_is_cut_off(series, length):
    series = np.array(series)
    np.testing.assert_array_equal(trim_padding(series), series[:length])


@given(arrays(np.float64, (7, 2), elements=VALUES))
def test_interpolation_is_that_of_pandas(series):
    filled = interpolate(series)
    expected = pd.DataFrame(series).interpolate(limit_direction="both").to_numpy()
    np.testing.assert_allclose(filled, expected)


@given(arrays(np.float64, (7, 2), elements=VALUES))
def test_what_is_there_stays(series):
    before = series.copy()
    filled = interpolate(series)
    np.testing.assert_array_equal(series, before)
    there = ~np.isnan(series)
    np.testing.assert_array_equal(filled[there], series[there])
