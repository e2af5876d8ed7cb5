"""The same series in tables of every layout."""

import csv
import json
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS, STEPS = 24, 9
CHANNELS = "xyz"
generator = np.random.default_rng(0)
SERIES = generator.normal(size=(ROWS, STEPS, len(CHANNELS))).round(3)
LABELS = [("up", "down", "level")[row % 3] for row in range(ROWS)]
CODES = [str(row % 3) for row in range(ROWS)]


def wide_records(channels, names, labels):
    """Return the records of a wide table, without other columns than the steps and the label."""
    order = product(range(STEPS), range(channels)) if names == "0_x" else None
    order = order or ((step, channel) for channel in range(channels) for step in range(STEPS))
    order = list(order)

    def name(step, channel):
        letter = CHANNELS[channel]
        return {"x_0": f"{letter}_{step}", "x0": f"{letter}{step + 1}", "0_x": f"{step}_{letter}"}[
            names
        ]

    return [
        {name(step, channel): SERIES[row, step, channel].item() for step, channel in order}
        | {"label": labels[row]}
        for row in range(ROWS)
    ]


def long_records(channels, time, labels):
    return [
        ({"time": step} if time else {})
        | {CHANNELS[channel]: SERIES[row, step, channel].item() for channel in range(channels)}
        | {"label": labels[row], "id": f"s{row}"}
        for row in range(ROWS)
        for step in range(STEPS)
    ]


def arrange(records, identity, index, label_place):
    """Add an id and an index, and move the label."""
    arranged = []
    for number, record in enumerate(records):
        record = dict(record)
        name = record.pop("id", f"s{number}")
        label = {"label": record.pop("label")}
        record = label | record if label_place == "first" else record | label
        record = {identity: name} | record if identity is not None else record
        arranged.append({index: number} | record if index is not None else record)
    return arranged


def write(path, records, kind, delimiter=",", header=True, decimal="."):
    path = path / f"data.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            if header:
                writer.writerow(list(records[0]))
            for record in records:
                values = [
                    str(value).replace(".", decimal) if isinstance(value, float) else value
                    for value in record.values()
                ]
                writer.writerow(values)
    return path


def table(path, header, rows):
    path = path / "data.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path
