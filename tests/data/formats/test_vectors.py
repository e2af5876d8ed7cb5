import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlstm.data.formats.vectors import load_vectors
from attnlstm.errors import UserError

VOCABULARY = {"[UNK]": 0, "the": 1, "film": 2, "of": 3, "привет": 4, "1999": 5, "nan": 6}


@pytest.fixture
def load(tmp_path):
    """`load(content)`: write the file, read it."""

    def write_and_load(content, vocabulary=VOCABULARY, skip_malformed=False, name="glove.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_vectors(path, vocabulary, skip_malformed=skip_malformed)

    return write_and_load


def vectors_of(found):
    return dict(zip(found.ids.tolist(), found.vectors.tolist(), strict=True))


GLOVE = "the 0.5 -1 2e-1\nother 1 1 1\nпривет 3 4 5\n1999 7 8 9\nnan 1 2 3\n"


@pytest.mark.parametrize(
    "content",
    [
        GLOVE,
        GLOVE.rstrip("\n"),
        GLOVE.replace("\n", "\r\n"),
        GLOVE.replace("\n", " \n"),
        GLOVE.replace(" ", "\t"),
        "\ufeff" + GLOVE,
        GLOVE + "\n\n",
        "5 3\n" + GLOVE,
        "5 3 \r\n" + GLOVE,
    ],
    ids=["glove", "no end", "crlf", "spaces", "tabs", "bom", "blank lines", "word2vec", "header"],
)
def test_vectors_of_the_vocabulary(load, content):
    found = load(content)
    assert found.vectors.dtype == np.float32
    assert found.ids.dtype == np.int64
    assert found.num_malformed == 0
    expected = {1: [0.5, -1, np.float32(0.2)], 4: [3, 4, 5], 5: [7, 8, 9], 6: [1, 2, 3]}
    assert vectors_of(found) == expected


FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.mark.slow
@given(
    table=st.dictionaries(
        st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8),
        st.lists(
            st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=4, max_size=4
        ),
        min_size=1,
        max_size=8,
    ),
    with_header=st.booleans(),
    data=st.data(),
)
def test_what_was_written_is_read(tmp_path_factory, table, with_header, data):
    lines = [" ".join([word, *map(repr, values)]) for word, values in table.items()]
    header = [f"{len(table)} 4"] if with_header else []
    path = tmp_path_factory.getbasetemp() / "written.txt"
    path.write_text("\n".join(header + lines), "utf-8", newline="")
    wanted = data.draw(st.lists(st.sampled_from(sorted(table)), min_size=1, unique=True))
    vocabulary = {word: number for number, word in enumerate(wanted)}
    found = load_vectors(path, vocabulary, skip_malformed=False)
    assert vectors_of(found) == {vocabulary[word]: table[word] for word in wanted}


def test_words_are_compared_exactly(load):
    found = load("The 1 2\nfilm 3 4\n")
    assert vectors_of(found) == {2: [3, 4]}


def test_words_with_spaces(load):
    vocabulary = {". . .": 0, "at name@domain.com": 1, "no\u00a0break": 2, ".": 3}
    found = load("the 1 2\n. . . 3 4\nat name@domain.com 5 6\nno\u00a0break 7 8\n", vocabulary)
    assert vectors_of(found) == {0: [3, 4], 1: [5, 6], 2: [7, 8]}


def test_the_first_of_two_vectors_counts(load):
    assert vectors_of(load("the 1 2\nfilm 3 4\nthe 5 6\n")) == {1: [1, 2], 2: [3, 4]}


MALFORMED = [
    ("the 1 2", "2 values instead of 3"),
    ("the 1 2 3 4", "4 values instead of 3"),
    ("the", "0 values instead of 3"),
    ("the 1 2 x", "a value is not a number"),
    ("the 1 x 3", "a value is not a number"),
    ("the x 2 3", "a value is not a number"),
    ("the 1  3", "a value is not a number"),
    ("the 1 nan 3", "a value is not finite"),
    ("the 1 2 inf", "a value is not finite"),
    ("the 1e39 2 3", "a value is not finite"),
    (" 1 2 3", "no word"),
    (b"th\xff 1 2 3", "not UTF-8"),
]


@pytest.mark.parametrize(("line", "reason"), MALFORMED, ids=range(len(MALFORMED)))
@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.parametrize("header", [b"", b"4 3\n"], ids=["glove", "word2vec"])
def test_a_malformed_line_is_named_or_counted(load, line, reason, place, header):
    lines = [b"film 1 2 3", b"of 4 5 6", b"other 7 8 9"]
    lines.insert(place, line if isinstance(line, bytes) else line.encode())
    content = header + b"\n".join(lines) + b"\n"
    number = place + 1 + bool(header)
    with pytest.raises(UserError) as caught:
        load(content)
    message = str(caught.value)
    assert f"glove.txt has 1 malformed line: line {number} (" in message
    assert f"{reason}): fix" in message
    assert message.endswith("fix or remove them, or set data.on_bad_row=drop")
    found = load(content, skip_malformed=True)
    assert vectors_of(found) == {2: [1, 2, 3], 3: [4, 5, 6]}
    assert found.num_malformed == 1


def test_a_line_longer_than_any_vector_is_malformed(load):
    content = "film 1 2 3\nthe " + "1 " * 700_000 + "\nother 7 8 9\n"
    with pytest.raises(
        UserError, match=r"has 1 malformed line: line 2 \(\S+ values instead of 3\)"
    ):
        load(content)
    assert load(content, skip_malformed=True).num_malformed == 1


def test_all_malformed_lines_are_counted(load):
    lines = [f"w{i} 1 2" if i % 2 else f"w{i} 1 2 3" for i in range(30)] + ["the 1 2 3"] * 10
    with pytest.raises(UserError) as caught:
        load("\n".join(lines))
    message = str(caught.value)
    assert "has 15 malformed lines: line 2 (2 values instead of 3), line 4 (" in message
    assert "line 20 (2 values instead of 3), ...: fix" in message
    assert "line 22" not in message


@pytest.mark.parametrize("header", ["4 3", "2 3", "3 4"])
def test_a_header_that_does_not_match_the_file(load, header):
    content = f"{header}\nthe 1 2 3\nfilm 1 2 3\nother 1 2 3\n"
    count, size = header.split()
    announced = f"line 1 \\({count} vectors of {size} values announced, 3 of 3 found\\)"
    with pytest.raises(UserError, match=f"1 malformed line: {announced}"):
        load(content)
    found = load(content, skip_malformed=True)
    assert found.num_malformed == 1
    assert vectors_of(found) == {1: [1, 2, 3], 2: [1, 2, 3]}


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "glove.txt", "holds no vectors"),
        (b"\n\n", "glove.txt", "holds no vectors"),
        (b"Some prose.\nAnd more of it.\n", "glove.txt", "holds no vectors"),
        (gzip.compress(GLOVE.encode(), mtime=0), "glove.txt.gz", "is packed .gzip.: unpack"),
        (b"PK\x03\x04" + bytes(30), "glove.zip", "is packed .zip.: unpack"),
        (b"1 2\nthe \x00\x00\x80?\x00\x00\x00@\n", "vectors.txt", "is a binary file"),
        (b"1 1\nthe \xcd\xcc\xcc\x3d\n", "vectors.bin", "is a binary file"),
        (b"word 1 2 3\n", "glove.txt", "has none of the 7 tokens"),
    ],
)
def test_files_without_vectors(load, content, name, message):
    with pytest.raises(UserError, match=f"model.embedding.vectors=.*{name} {message}"):
        load(content, name=name)


def test_unreadable_files_of_vectors(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.txt: No such file"):
        load_vectors(tmp_path / "nowhere.txt", VOCABULARY, skip_malformed=False)
    with pytest.raises(UserError, match="is not a regular file"):
        load_vectors(tmp_path, VOCABULARY, skip_malformed=True)
