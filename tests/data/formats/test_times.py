import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attnlstm.data.sources.series_files import SeriesFiles
from attnlstm.errors import UserError
from tests.data.formats.series_tables import table

DAY = datetime.datetime(2024, 1, 1)


def problem_of(folder, times):
    """The problem of a series in a Parquet file whose steps have these times."""
    path, count = folder / "walks.parquet", len(times)
    columns = {"id": [0] * count, "time": times, "x": [1.0] * count, "label": ["up"] * count}
    pq.write_table(pa.table(columns), path)
    (row,) = SeriesFiles([path], key="data.train")
    return row.problem


@pytest.mark.parametrize(
    "times",
    [
        [1, 2, 3],
        [-0.5, 0.25, 1e9],
        [DAY, DAY + datetime.timedelta(seconds=1), DAY + datetime.timedelta(days=9)],
        [DAY.date(), DAY.date() + datetime.timedelta(1), DAY.date() + datetime.timedelta(2)],
        [datetime.timedelta(1), datetime.timedelta(2), datetime.timedelta(3)],
        # equal as floats
        [1700000000000000000, 1700000000000000001, 1700000000000000002],
        ["1700000000000000000", "1700000000000000001", "1700000000000000002"],
        ["9", "10", " 11.5 "],
        ["2024-01-31", "2024-02-01", "2024-02-01 00:00:01"],
        ["2024-01-31T10:00:00Z", "2024-01-31T12:00:01+02:00", "2024-01-31T10:00:02.5Z"],
    ],
)
def test_times_of_all_types(tmp_path, times):
    assert problem_of(tmp_path, times) is None
    assert problem_of(tmp_path, times[:2] + times[1:]) == "time step twice"
    assert problem_of(tmp_path, times[::-1]) == "time that goes back"
    assert problem_of(tmp_path, [*times, None]) == "time that is not a number or date"


@pytest.mark.parametrize("times", [[True, True], ["2024-01-01", "2024-01-02T00:00Z"], [b"1", b"2"]])
def test_values_that_are_not_times(tmp_path, times):
    assert problem_of(tmp_path, times) == "time that is not a number or date"


def test_the_order_of_the_file_on_request(tmp_path):
    rows = ["a,2021-03-28 09:59:58,1,up", "a,2021-03-28 09:59:58,2,up", "a,2021-03-28,3,up"]
    path = table(tmp_path, "id,time,x,label", rows)
    source = SeriesFiles([path], key="data.train")
    (row,) = source
    assert row.problem == "time step twice"
    assert "data.time_column=false takes the steps in the order of the file" in (source.doubt or "")
    source = SeriesFiles([path], key="data.train", time_column=False)
    (row,) = source
    assert row.value.tolist() == [[1], [2], [3]]
    assert source.left_out == {"time": "time, and the order of the file counts"}


@pytest.mark.parametrize(
    ("times", "pattern", "suggested"),
    [
        (["28/03/2021 09:59:58", "28/03/2021 10:00:00"], "%d/%m/%Y %H:%M:%S", ["%d/%m/%Y %H"]),
        (["03/28/2021 09:59", "04/01/2021 10:00"], "%m/%d/%Y %H:%M", ["%m/%d/%Y %H:%M"]),
        (["03/04/2021", "03/05/2021"], "%d/%m/%Y", ["%d/%m/%Y", "%m/%d/%Y"]),
        (["28.03.2021", "29.03.2021"], "%d.%m.%Y", ["%d.%m.%Y"]),
        (["09:59:58", "10:00:00"], "%H:%M:%S", ["%H:%M:%S"]),
        (["1:59:58 PM", "2:00:00 PM"], "%I:%M:%S %p", ["%I:%M:%S %p"]),
        (["March 3, 2021", "March 4, 2021"], "%B %d, %Y", ["%B %d, %Y"]),
        (["x 1", "x 2"], "x %d", []),
    ],
)
def test_formats_of_dates(tmp_path, times, pattern, suggested):
    rows = [f'a,"{time}",{step},up' for step, time in enumerate(times)]
    path = table(tmp_path, "id,time,x,label", rows)
    source = SeriesFiles([path], key="data.train")
    (row,) = source
    assert row.problem == "time that is not a number or date"
    for part in [*suggested, "data.time_format", "data.time_column=false"]:
        assert part in (source.doubt or "")
    (row,) = SeriesFiles([path], key="data.train", time_format=pattern)
    assert row.value.tolist() == [[0], [1]]
    path = table(tmp_path, "id,time,x,label", rows[::-1])
    (row,) = SeriesFiles([path], key="data.train", time_format=pattern)
    assert row.problem == "time that goes back"


@pytest.mark.parametrize("pattern", ["%", "day", "%Q", ""])
def test_formats_that_are_none(tmp_path, pattern):
    path = table(tmp_path, "id,time,x,label", ["a,1,2,up"])
    with pytest.raises(UserError, match=r"^data\.time_format=.* is not a format of dates"):
        SeriesFiles([path], key="data.train", time_format=pattern)
