"""Predictions for the pages of the tests."""

import re

import numpy as np

from attnlstm.data.rows import Row
from attnlstm.inference.predictor import Prediction

NAMES = ["first", "second", "third"]
BAD = Prediction(Row("new.csv", 0, ""), "no text")


def make_prediction(
    number, prediction, probabilities, label=None, value=None, attention=None, name=None
):
    row = Row("new.csv", number, value, label, name=name)
    attention = None if attention is None else np.array(attention)
    return Prediction(
        row, label=prediction, probabilities=np.array(probabilities), attention=attention
    )


def example(
    number=0,
    prediction=0,
    confidence=0.8,
    label=None,
    names=NAMES,
    text=None,
    series=None,
    attention=None,
):
    rest = (1 - confidence) / (len(names) - 1)
    probabilities = [rest] * len(names)
    probabilities[prediction] = confidence
    value = series if text is None else text
    return make_prediction(number, names[prediction], probabilities, label, value, attention)


def word_spans(text):
    return [match.span() for match in re.finditer(r"\S+", text)]


def several(number, predicted, probabilities, label=None, text=None):
    """Return a prediction of several classes; `label` and `predicted` are tuples of names."""
    return Prediction(
        Row("new.csv", number, text, label),
        label=predicted,
        probabilities=np.array(probabilities),
    )


def numbers(number, predicted, label=None, half_width=None, value=None):
    """Return a prediction of numbers; `label` is a text or a tuple of texts."""
    predicted = np.array(predicted, np.float64)
    intervals = None
    if half_width is not None:
        intervals = np.stack([predicted - half_width, predicted + half_width], axis=1)
    row = Row("new.csv", number, value, label)
    return Prediction(row, numbers=predicted, intervals=intervals)
