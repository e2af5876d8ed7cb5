"""Files as spreadsheets and editors write them, through the commands: train, evaluate, predict."""

import csv
from pathlib import Path

import pytest

from tests.inference.verbs import read_csv, run_evaluate, run_predict

pytestmark = pytest.mark.slow

WORDS = {"été": "plage mer soleil", "hiver": "neige ski froid"}
ROWS = [(f"titre {n}", f"{text}; {n}", label) for n in range(20) for label, text in WORDS.items()]


def write(path: Path, rows: list[tuple[str, ...]]) -> Path:
    with path.open("w", encoding="cp1252", newline="") as file:
        csv.writer(file, delimiter=";").writerows(rows)
    return path


def test_the_columns_and_the_encoding_of_training_are_those_of_other_files(
    run_train, tmp_path: Path
) -> None:
    header = ("titre", "texte complet", "étiquette")
    path = write(tmp_path / "données.csv", [header, *ROWS])
    run_train(
        tmp_path / "été",
        "data=text_files",
        f"data.train={path}",
        "data.text_column=[titre,texte complet]",
        "data.label_column=étiquette",
        "data.encoding=cp1252",
    )
    ckpt = f"ckpt={tmp_path}/été/checkpoints/best.ckpt"
    evaluated = run_evaluate(tmp_path / "evaluated", ckpt)
    assert evaluated.trained.label_names == ["hiver", "été"]
    new = write(tmp_path / "nouveau.csv", [header[:2], *(row[:2] for row in ROWS)])
    text = tmp_path / "nouveau.txt"
    text.write_text("".join(f"{title}, {body}\n" for title, body, _ in ROWS), encoding="cp1252")
    for path in (new, text):
        output = tmp_path / "predictions.csv"
        given = [f"input={path}", f"output={output}", "overwrite=true"]
        run_predict(tmp_path, ckpt, *given)
        rows = read_csv(output)
        assert len(rows) == len(ROWS)
        assert {row["error"] for row in rows} == {""}
