import datasets
import numpy as np
import pytest

from attnlstm.data.parts import Part


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder / "attnlstm"


@pytest.fixture
def part_of(make_rows):
    """Make a part of all these values, with the classes 0, 1, 2, 0, ..."""

    def make(values, **options):
        targets = np.arange(len(values)) % 3
        source = make_rows(values, [str(target) for target in targets], **options)
        return Part(((source, np.arange(len(values)), targets),))

    return make
