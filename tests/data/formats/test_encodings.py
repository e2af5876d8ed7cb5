import io

import pandas as pd
import pytest

from attnlstm.data.formats.encodings import check_encoding, guess_encoding
from attnlstm.data.formats.opening import open_table
from attnlstm.data.formats.texts import TextLines
from attnlstm.data.sources.text_files import TextFiles
from attnlstm.errors import UserError
from tests.data.formats.written import found, problem_of, write

TEXTS = {
    "cp1252": ["meet at the café 1", "win £100 now", "“smart” quotes – a dash", "niño, mañana"],
    "cp1251": ["Привет мир, это текст", "очень хорошо", "плохой фильм"],
    "cp1253": ["πολύ καλή ταινία", "κακή ταινία"],
    "gb18030": ["这是一个很好的电影", "不好看的电影"],
    "shift_jis": ["これはとても良い映画です", "つまらない映画でした"],
    "euc_kr": ["이 영화는 정말 좋았습니다", "정말 재미없었어요"],
}
CONTENT = "text,label\n" + "".join(f"été {n},{'ab'[n % 2]}\n" for n in range(8))
ROWS = [(f"été {n}", "ab"[n % 2]) for n in range(8)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json"])
def test_a_byte_order_mark_says_the_encoding(tmp_path, name, encoding):
    frame = pd.DataFrame(ROWS, columns=["text", "label"])
    content = {
        "a.csv": CONTENT,
        "a.tsv": CONTENT.replace(",", "\t"),
        "a.jsonl": frame.to_json(orient="records", lines=True, force_ascii=False),
        "a.json": frame.to_json(orient="records", force_ascii=False),
    }[name]
    table = open_table(write(tmp_path / name, content.encode(encoding)))
    assert [values for _, _, values in found(table)] == ROWS
    assert table.read_as.startswith(
        {"utf-8": "UTF-8", "utf-8-sig": "UTF-8"}.get(encoding, encoding)
    )


@pytest.mark.parametrize("order", ["little", "big"])
def test_both_byte_orders_have_marks(tmp_path, order):
    for bits in (16, 32):
        content = ("\ufeff" + CONTENT).encode(f"utf-{bits}-{order[0]}e")
        path = write(tmp_path / "a.csv", content)
        assert [values for _, _, values in found(open_table(path))] == ROWS
        given = open_table(path, encoding=f"utf-{bits}-{order[0]}e")
        assert [values for _, _, values in found(given)] == ROWS


@pytest.mark.parametrize(
    "encoding", ["cp1252", "latin-1", "Windows-1252", "cp437", "mac_roman", "utf-16-le", "utf_7"]
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_any_encoding_that_is_named(tmp_path, name, encoding):
    content = CONTENT
    if name == "a.jsonl":
        content = "".join(f'{{"text": "{text}", "label": "{label}"}}\n' for text, label in ROWS)
    path = write(tmp_path / name, content.encode(encoding))
    assert [values for _, _, values in found(open_table(path, encoding=encoding))] == ROWS


@pytest.mark.parametrize("name", ["cp125", "base64", "idna", "undefined", "", "no such", "a\0b"])
def test_a_name_that_is_no_encoding(name):
    assert problem_of(check_encoding, name).startswith(f"data.encoding={name} is not an encoding")


def test_a_slip_in_the_name_is_corrected():
    assert "did you mean cp1252" in problem_of(check_encoding, "cp12522")


@pytest.mark.parametrize("encoding", TEXTS)
@pytest.mark.parametrize("count", [1, 40])
def test_the_likely_encoding_reads_the_text(encoding, count):
    lines = [f"good,{text}" for text in TEXTS[encoding]] * count
    content = "\n".join(lines).encode(encoding)
    assert content.decode(guess_encoding(content)) == "\n".join(lines)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark(tmp_path, encoding):
    path = write(tmp_path / "a.csv", CONTENT.encode(encoding))
    message = problem_of(open_table(path).column_names)
    assert f"say data.encoding={encoding}" in message
    assert [values for _, _, values in found(open_table(path, encoding=encoding))] == ROWS


def test_bytes_that_are_no_text_are_not_guessed():
    assert guess_encoding(bytes(1000)) is None
    assert guess_encoding(bytes(range(256)) * 4) is None


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "folder"])
def test_the_message_names_the_key_and_shows_what_it_reads(tmp_path, name):
    if name == "folder":
        for number in range(4):
            (tmp_path / name / "good").mkdir(parents=True, exist_ok=True)
            write(tmp_path / name / "good" / f"{number}.txt", "à la carte".encode("cp1252"))
    else:
        line = {"csv": "à la carte,b\n", "tsv": "à la carte\tb\n"}.get(name[2:])
        line = line or '{"text": "à la carte", "label": "b"}\n'
        header = {"csv": "text,label\n", "tsv": "text\tlabel\n"}.get(name[2:])
        header = header or '{"text": "plain", "label": "b"}\n'
        write(tmp_path / name, (header + line * 4).encode("cp1252"))
    source = TextFiles([tmp_path / name], key="data.train")
    assert [row.problem for row in source][-4:] == ["not UTF-8"] * 4
    assert f"{name} is not UTF-8: it is probably cp1252 (" in source.doubt
    assert "à la carte" in source.doubt
    assert "say data.encoding=cp1252" in source.doubt
    said = TextFiles([tmp_path / name], key="data.train", encoding="cp1252")
    assert [row.value for row in said][-1] == "à la carte"
    assert said.doubt is None


def test_a_header_that_is_not_utf8(tmp_path):
    path = write(tmp_path / "a.csv", "étiquette,texte\na,b\nc,d\n".encode("cp1252"))
    message = problem_of(open_table(path).column_names)
    assert f"{path} is not UTF-8: it is probably cp1252 ('étiquette,texte')" in message


def test_bytes_that_the_named_encoding_does_not_know(tmp_path):
    path = write(tmp_path / "a.csv", b"text,label\na\x81b,x\nfine,x\n")
    assert found(open_table(path, encoding="cp1252")) == [
        (0, 2, "not cp1252"),
        (1, 3, ("fine", "x")),
    ]
    content = "text,label\nfine,x\n".encode("utf-16-le") + b"\x00\xd8a\x00,\x00x\x00\n\x00"
    path = write(tmp_path / "b.csv", content + "last,x\n".encode("utf-16-le"))
    assert found(open_table(path, encoding="utf-16-le")) == [
        (0, 2, ("fine", "x")),
        (1, 3, "not utf-16-le"),
        (2, 4, ("last", "x")),
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
@pytest.mark.parametrize("encoding", ["utf-16", "UTF_32"])
def test_a_byte_order_mark_that_is_missing(tmp_path, name, encoding):
    path = tmp_path / name
    if name == "a.txt":
        path = tmp_path / "folder" / "good" / name
        path.parent.mkdir(parents=True)
    write(path, CONTENT)
    message = problem_of(
        lambda: list(
            TextFiles([tmp_path / name.replace("a.txt", "folder")], key="", encoding=encoding)
        )
    )
    assert "has no byte order mark: say data.encoding=utf-" in message


def test_utf8_that_is_read_as_something_else_is_doubted(tmp_path):
    path = write(tmp_path / "a.csv", CONTENT)
    source = TextFiles([path], key="data.train", encoding="cp1252")
    assert next(iter(source)).value == "Ã©tÃ© 0"
    list(source)
    assert "is read as cp1252, but is valid UTF-8" in source.doubt


def test_lines_of_text(tmp_path):
    for encoding in (None, "cp1252"):
        content = "été\nfine\n".encode(encoding or "utf-16")
        lines = TextLines(write(tmp_path / "a.txt", content), encoding=encoding)
        assert [row.value for row in lines] == ["été", "fine"]
    stream = TextLines(io.BytesIO("été\n".encode("cp1252")), encoding="cp1252")
    assert [row.value for row in stream] == ["été"]
    with pytest.raises(UserError, match=r"data\.encoding=none"):
        TextLines(tmp_path / "a.txt", encoding="none")
