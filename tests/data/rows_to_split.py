"""Rows in memory that the tests split."""

from hypothesis import strategies as st

from attnlstm.config.data import DataConfig
from attnlstm.data.parts import LabelledParts
from attnlstm.data.splits import split_sources

PARTS = ("train", "validation", "test")


def split(seed=0, label_names=None, **options) -> LabelledParts:
    """Split the sources among the options; the other options are for the configuration."""
    sources = {name: options.pop(name) for name in PARTS if name in options}
    return split_sources(sources, DataConfig(**options), seed, label_names)


def values_of(part):
    return [row.value for row in part]


def counted(make_rows, counts, name="train.csv"):
    """Return different texts, these numbers of them per label: `counted(make_rows, {"a": 3})`."""
    labels = [label for label, count in counts.items() for _ in range(count)]
    return make_rows([f"{name} {row}" for row in range(len(labels))], labels, name=name)


LABELLED_TEXTS = st.lists(
    st.tuples(st.sampled_from(["x", "X ", "y", "z", "u", "v", "w"]), st.sampled_from("abc")),
    min_size=1,
    max_size=30,
)
