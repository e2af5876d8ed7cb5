from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnlstm.data.sources.series_files import SeriesFiles
from attnlstm.data.sources.text_files import TextFiles
from attnlstm.errors import UserError
from tests.data.formats.contents import (
    ARFF,
    GOOD,
    GOOD_PARQUET,
    HEADER,
    SERIES,
    X,
    Y,
    npz,
    saved,
    sound,
)

FRAGMENTS = st.sampled_from(
    [
        *("text,label\n", "id,x,label\n", HEADER, SERIES, GOOD, '"', "\n", "\r", "\0", ",", "\t"),
        *(
            '{"text": "a", "label": 1}\n',
            "{",
            "[",
            "1e999",
            "nan",
            "@dimensions 3\n",
            ARFF,
            "1,2,a\n",
            "\ufeff",
            "a b",
        ),
    ]
)
CONTENT = st.binary(max_size=60) | st.lists(FRAGMENTS, max_size=8).map("".join).map(str.encode)


@pytest.mark.slow
@pytest.mark.parametrize(
    "ending",
    ["csv", "tsv", "jsonl", "parquet", "ts", "arff", "npz", "npy", "wav", "json", "csv.gz", "xlsx"],
)
@given(content=CONTENT, data=st.data())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_content_gives_rows_or_a_user_error(
    tmp_path: Path, ending: str, content: bytes, data: st.DataObject
) -> None:
    whole = {
        "parquet": GOOD_PARQUET,
        "npz": npz(X=X, y=Y),
        "npy": saved(X[:, :, 0]),
        "wav": sound(),
    }.get(ending)
    if whole is not None:
        place = data.draw(st.integers(0, len(whole) - 1))
        content = whole[:place] + content + whole[place + len(content) :]
    path = tmp_path / f"any.{ending}"
    path.write_bytes(content)
    for reader in (TextFiles, SeriesFiles):
        try:
            rows = list(reader([path], key="data.train", needs_labels=ending not in ("npy", "wav")))
        except UserError:
            continue
        assert [row.number for row in rows] == list(range(len(rows)))
        for row in rows:
            assert row.problem is not None or isinstance(row.value, str | np.ndarray)
            assert row.label is None or row.label.strip()
