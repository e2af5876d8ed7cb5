import io

import pytest

from attnlstm.data.formats import texts
from attnlstm.data.formats.texts import TextLines
from attnlstm.errors import UserError
from tests.data.formats.written import write

CONTENT = b"\xef\xbb\xbfone\r\n\n two \n \t\ncaf\xe9\nn\x00l\n\xc3\xa9\rnot an end\nlast"
LINES = [
    ("one", None),
    (None, "no text"),
    (" two ", None),
    (None, "no text"),
    (None, "not UTF-8"),
    (None, "NUL character"),
    ("é\rnot an end", None),
    ("last", None),
]


class TestTextLines:
    def check(self, rows, name):
        assert [(row.value, row.problem) for row in rows] == LINES
        assert [row.number for row in rows] == list(range(8))
        assert [row.line for row in rows] == list(range(1, 9))
        assert {(row.file, row.label) for row in rows} == {(name, None)}

    def test_of_a_file_again_and_again(self, tmp_path):
        source = TextLines(write(tmp_path / "lines.txt", CONTENT))
        assert source.name == "lines.txt"
        for _ in range(2):
            self.check(list(source), "lines.txt")
        first = source.fingerprint()
        write(tmp_path / "lines.txt", CONTENT + b"\n")
        assert source.fingerprint() != first

    def test_of_a_stream_once(self):
        stream = io.BytesIO(CONTENT)
        source = TextLines(stream)
        self.check(list(source), "standard input")
        assert not stream.closed
        with pytest.raises(RuntimeError):
            list(source)

    def test_of_nothing(self, tmp_path):
        assert list(TextLines(io.BytesIO(b""))) == []
        assert list(TextLines(write(tmp_path / "lines.txt", ""))) == []

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(UserError, match=r"gone.txt cannot be read \(No such file"):
            list(TextLines(tmp_path / "gone.txt"))

    def test_a_line_beyond_the_limit(self, monkeypatch):
        monkeypatch.setattr(texts, "LONGEST_LINE", 10)
        rows = list(TextLines(io.BytesIO(b"a\n" + b"b" * 35 + b"\nc\n")))
        assert [row.value for row in rows] == ["a", None, "c"]
        assert rows[1].problem == "longer than 4 Mi characters"
