"""Warnings about series that look wrong."""

from attnlstm.data.sources.series_files import SeriesFilesSource
from attnlstm.data.splits import split_sources
from tests.data.formats.series_tables import (
    LABELS,
    ROWS,
    SERIES,
    STEPS,
    long_records,
    table,
    wide_records,
    write,
)


def warnings_of(path, **options):
    config = SeriesFilesSource(train=str(path), **options)
    return " ".join(split_sources(config.open(), config, seed=0).warnings)


def test_a_channel_that_determines_the_label(tmp_path):
    records = long_records(1, True, LABELS)
    for record in records:
        record["code"] = ("up", "down", "level").index(record["label"])
    path = write(tmp_path, records, "csv")
    assert "channel 'code' determines the label" in warnings_of(path)
    assert "determines" not in warnings_of(path, channel_columns=["x"])
    for record in records:
        record["code"] = int(record["id"][1:]) % 2
    assert "determines" not in warnings_of(write(tmp_path, records, "csv"))


def test_a_step_that_determines_the_label(tmp_path):
    records = wide_records(1, "x_0", LABELS)
    for record in records:
        record["code"] = ("up", "down", "level").index(record["label"])
    path = write(tmp_path, records, "csv")
    assert "determines" not in warnings_of(path)  # it is left out
    for record in records:
        record[f"x_{STEPS}"] = record.pop("code")
    path = write(tmp_path, records, "csv")
    assert f"step {STEPS} of channel 0 determines the label" in warnings_of(path)


def test_series_of_one_step(tmp_path):
    rows = [f"{row},{SERIES[row, 0, 0]},{LABELS[row]}" for row in range(ROWS)]
    assert "24 of 24 series have one step" in warnings_of(table(tmp_path, "id,x,label", rows))


def test_more_columns_than_rows(tmp_path):
    records = wide_records(3, "x_0", LABELS)[:12]
    warnings = warnings_of(write(tmp_path, records, "csv"))
    assert "has more columns (27) than rows (12): if each column is a series, transpose" in warnings
    records = [{f"c{n}": n + step / 7 for n in range(30)} for step in range(20)]
    labelled = [record | {"id": n // 2, "label": n // 2 % 2} for n, record in enumerate(records)]
    warnings = warnings_of(write(tmp_path, labelled, "csv"))
    assert "has more channels (30) than rows (20), each a step of a series" in warnings
