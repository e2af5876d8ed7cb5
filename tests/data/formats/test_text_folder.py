import shutil

import pytest

from attnlstm.data.formats import text_folder
from attnlstm.data.formats.opening import open_table
from attnlstm.data.sources.text_files import TextFiles
from tests.data.formats.written import problem_of, write, write_saved


@pytest.fixture
def reviews(tmp_path):
    for label in ("pos", "neg"):
        folder = tmp_path / "reviews" / label
        folder.mkdir(parents=True)
        for number in range(3):
            write(folder / f"{number}.txt", f"{label} review\nnumber {number}\n")
    return tmp_path / "reviews"


def test_a_class_in_each_folder(reviews):
    source = TextFiles([reviews], key="data.train")
    for _ in range(2):
        assert [(row.file, row.number, row.value, row.label, row.name) for row in source] == [
            ("reviews", place, f"{label} review\nnumber {n}\n", label, f"{label}/{n}.txt")
            for place, (label, n) in enumerate((a, n) for a in ("neg", "pos") for n in range(3))
        ]
    assert source.read_as == "a folder of 6 .txt files, with a class in each of 2 folders"
    before = source.fingerprint()
    write(reviews / "pos" / "3.txt", "more")
    assert TextFiles([reviews], key="data.train").fingerprint() != before


def test_other_files_are_left_out_and_named(reviews):
    write(reviews / "README.md", "what this is")
    write(reviews / "urls.txt", "where they come from")
    write(reviews / "pos" / "a.html", "<p>")
    write(reviews / "pos" / ".DS_Store", "x")
    source = TextFiles([reviews], key="data.train")
    assert len(list(source)) == 6
    assert source.read_as.endswith(
        "other files are left out (1 with .html, 1 with .md, 1 with .txt)"
    )


def test_without_classes(tmp_path):
    write(tmp_path / "a.txt", "fine")
    write(tmp_path / "b.TXT", "dull")
    source = TextFiles([tmp_path], key="input", needs_labels=False)
    assert [(row.value, row.label, row.name) for row in source] == [
        ("fine", None, "a.txt"),
        ("dull", None, "b.TXT"),
    ]
    message = problem_of(lambda: TextFiles([tmp_path], key="data.train"))
    assert "has no column with a usual name for the label" in message


def test_folders_of_folders_are_not_classes(reviews):
    message = problem_of(open_table, reviews.parent)
    assert "has .txt files in folders of folders" in message
    assert f"data.train={reviews}" in message


def test_bad_files(reviews, monkeypatch):
    monkeypatch.setattr(text_folder, "LONGEST_LINE", 100)
    monkeypatch.setattr(text_folder, "LARGEST_FILE", 400)
    for name, content in (
        ("0", "é".encode("cp1252")),
        ("1", b""),
        ("2", b" \n"),
        ("3", b"a\0b"),
        ("4", b"a" * 101),
        ("5", "é".encode() * 201),
        ("6", "é".encode("utf-16")),
    ):
        write(reviews / "neg" / f"{name}.txt", content)
    rows = list(TextFiles([reviews], key="data.train"))[:7]
    assert [row.problem for row in rows] == [
        "not UTF-8",
        "no text",
        "no text",
        "NUL character",
        "longer than 4 Mi characters",
        "longer than 4 Mi characters",
        None,
    ]
    assert rows[0].place == "row 0 (id neg/0.txt)"
    assert rows[6].value == "é"


def test_folders_of_other_kinds(tmp_path):
    write_saved(tmp_path / "saved", [("a", "x")])
    write(tmp_path / "saved" / "notes.txt", "a")
    assert [row.value for row in TextFiles([tmp_path / "saved"], key="data.train")] == ["a"]
    shutil.rmtree(tmp_path / "saved")
    (tmp_path / "tables").mkdir()
    write(tmp_path / "tables" / "a.csv", "text,label\na,b\n")
    assert "name its files, such as" in problem_of(open_table, tmp_path / "tables")
