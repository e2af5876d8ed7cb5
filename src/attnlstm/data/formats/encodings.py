"""Which characters the bytes of a text file stand for."""

import codecs
import re
from encodings.aliases import aliases
from pathlib import Path
from string import ascii_letters

from attnlstm.config.checks import similar
from attnlstm.console import shorten
from attnlstm.data.formats.compression import open_unpacked
from attnlstm.errors import UserError

UTF8 = "utf-8-sig"
"""UTF-8 with or without a byte order mark."""

MARKS = {  # UTF-32 first, as its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: UTF8,
}

SAMPLED_BYTES = 1 << 16
LETTERS = [letter.encode() for letter in ascii_letters]
MOST_OTHER = 0.4  # of the letters of a text in a Latin script are not ASCII

USUAL_ENCODINGS = {
    "mac_cyrillic": "cp1251",
    "mac_greek": "cp1253",
    "mac_latin2": "cp1250",
    "mac_turkish": "cp1254",
}
"""By a rare encoding, the usual one of the same script, whose bytes are much the same."""

BAD_BYTES = "attnlstm.bad_bytes"
codecs.register_error(BAD_BYTES, lambda error: ("\udcff", getattr(error, "end", 0)))
"""Decodes bytes that an encoding other than UTF-8 does not know as a lone surrogate."""


def find_encoding(start: bytes, given: str | None) -> str:
    """Return the encoding of a text: that of its byte order mark, as given, or UTF-8.

    start: the first bytes; empty if they are not known.

    Raises:
        UserError: a byte order mark is needed and missing.
    """
    for mark, encoding in MARKS.items():
        if start.startswith(mark):
            return encoding
    if given is None:
        return UTF8
    name = codecs.lookup(given).name
    if start and name in ("utf-16", "utf-32"):
        raise UserError(
            f"data.encoding={name}, but a file has no byte order mark: say data.encoding={name}-le "
            f"or {name}-be, or leave data.encoding out if it is UTF-8"
        )
    return UTF8 if name == "utf-8" else name


def check_encoding(name: str) -> None:
    """Raise a UserError if Python cannot decode text with an encoding of this name."""
    try:
        bytes(range(256)).decode(name, BAD_BYTES)
    except (LookupError, ValueError) as error:
        meant = similar(name, sorted({*aliases.values(), "latin-1", "utf-8", "utf-16", "utf-32"}))
        hint = f"; did you mean {meant}?" if meant else ""
        raise UserError(
            f"data.encoding={shorten(name)} is not an encoding of texts that Python knows, such as "
            f"cp1252, gb18030 or utf-16{hint}"
        ) from error


def error_handler(encoding: str) -> str:
    """Return the error handler of codecs that turns undecodable bytes into lone surrogates."""
    return "surrogateescape" if encoding == UTF8 else BAD_BYTES  # the first keeps the bytes


def not_decoded(encoding: str) -> str:
    """Return the problem of a row that has bytes the encoding does not know."""
    return f"not {describe_encoding(encoding)}"


def guess_encoding(content: bytes) -> str | None:
    """Return a likely encoding of a text that is not UTF-8, or None.

    UTF-16 is known by its zero bytes, Japanese by its kana, and a Latin script by its few letters
    that are not ASCII, which stand alone; cp1252 is by far the most common encoding of these.
    """
    content = content[:SAMPLED_BYTES]
    if content.count(0) > len(content) // 4:
        ends = {"utf-16-le": content[1::2].count(0), "utf-16-be": content[::2].count(0)}
        likely = max(ends, key=lambda name: ends[name])
        return likely if ends[likely] > len(content) // 3 > 2 * min(ends.values()) else None
    if b"\0" in content:
        return None
    runs = re.findall(rb"[\x80-\xff]+", content)
    num_other, num_alone = sum(map(len, runs)), sum(len(run) == 1 for run in runs)
    num_letters = num_other + sum(content.count(letter) for letter in LETTERS)
    is_latin = num_other <= MOST_OTHER * num_letters and num_alone >= num_other / 2
    if is_latin and _decodes(content, "cp1252"):
        return "cp1252"
    for encoding in ("cp932", "euc_jp"):
        if _decodes(content, encoding) and _has_kana(content.decode(encoding)):
            return encoding
    from charset_normalizer import from_bytes

    found = from_bytes(content).best()
    if found is None or found.encoding.startswith("utf"):
        return None
    usual = USUAL_ENCODINGS.get(found.encoding, found.encoding)
    return usual if _decodes(content, usual) else found.encoding


def _has_kana(text: str) -> bool:
    """Return whether a good part of a text is written as only Japanese is."""
    others = [letter for letter in text if not letter.isascii()]
    return sum("\u3040" < letter < "\u3100" for letter in others) > len(others) / 5


def _decodes(content: bytes, encoding: str) -> bool:
    try:
        text = content.decode(encoding)
    except ValueError:
        return False
    return not any(0x80 <= ord(letter) < 0xA0 for letter in text)


def describe_encoding(encoding: str) -> str:
    """Return an encoding as the log calls it."""
    return "UTF-8" if encoding.startswith("utf-8") else encoding


def is_utf8(text: str, encoding: str) -> bool:
    """Return whether the bytes that were read as this text are valid UTF-8, and not just ASCII."""
    content = text.encode(encoding, "replace")
    return not content.isascii() and _decodes(content, "utf-8")


def not_utf8(path: Path) -> UserError:
    """Return the complaint about a file that is not UTF-8 from its beginning on."""
    with open_unpacked(path) as file:
        content = file.read(SAMPLED_BYTES)
    return UserError(f"{path} is not UTF-8: {_advise(content)}")


class Undecoded:
    """Lines of a file that are not UTF-8, from which its encoding can be guessed."""

    def __init__(self) -> None:
        self._content = bytearray()

    def add(self, line: str, encoding: str) -> None:
        """Keep a line that this encoding could not read, if it is UTF-8."""
        if encoding == UTF8 and len(self._content) < SAMPLED_BYTES:
            self._content += (
                line[:SAMPLED_BYTES].rstrip().encode("utf-8", "surrogateescape") + b"\n"
            )

    def advise(self, name: str) -> str | None:
        """Return a sentence about the encoding, if there are such lines."""
        return f"{name} is not UTF-8: {_advise(bytes(self._content))}" if self._content else None


def _advise(content: bytes) -> str:
    encoding = guess_encoding(content)
    if encoding is None:
        return "save it as UTF-8, or name its encoding with data.encoding"
    example = content.decode(encoding, "replace").strip().splitlines()[0]
    return f"it is probably {encoding} ({shorten(example)!r}): say data.encoding={encoding}"
