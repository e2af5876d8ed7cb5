"""Texts and series that the tests encode."""

import numpy as np

from attnlstm.data.encoders.encoding import encode_part, fit_encoder
from attnlstm.data.sources.series_files import SeriesFilesSource
from attnlstm.data.sources.text_files import TextFilesSource

TEXTS = TextFilesSource()
SERIES = SeriesFilesSource()


def changed(config, **values):
    return config.model_copy(update=values)


def make_texts(count, seed=0):
    generator = np.random.default_rng(seed)
    words = [f"word{number}" for number in range(50)]
    return [" ".join(generator.choice(words, generator.integers(1, 12))) for _ in range(count)]


def make_series(count, channels=3):
    generator = np.random.default_rng(0)
    return [generator.normal(5, 3, (generator.integers(1, 9), channels)) for _ in range(count)]


def encode(config, train, part=None):
    """The encoder, and a part that it has encoded."""
    encoder = fit_encoder(config, train)
    split, counts = encode_part(encoder, train if part is None else part, "train")
    return encoder, split, counts
