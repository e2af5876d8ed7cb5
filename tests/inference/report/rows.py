"""Predictions for the pages of the tests."""

import re

import numpy as np

from attnlstm.data.rows import Row
from attnlstm.inference.predictor import Prediction

NAMES = ["first", "second", "third"]


def make_prediction(
    number, prediction, probabilities, label=None, value=None, attention=None, name=None
):
    row = Row("new.csv", number, value, label, name=name)
    attention = None if attention is None else np.array(attention)
    return Prediction(row, None, prediction, np.array(probabilities), attention)


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
