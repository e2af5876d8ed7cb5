"""The `.arff` files of the UCR and UEA archives, read line by line.

A header of attributes, then a series in each line: its values and the label. The channels of series
with several are lines of a relational attribute, in quotes and separated by `\\n`.

    @attribute bag relational
      @attribute t0 numeric
      @attribute t1 numeric
    @end bag
    @attribute target {walking,running}
    @data
    '0.1,0.2\\n1.5,1.5',walking

The readers of aeon and scipy hold the whole file in memory, and do not say which row is wrong; that
of aeon also accepts labels that are not declared.
"""

import csv
import re
from typing import NamedTuple

import numpy as np

from attnlstm.data.formats import register_reader
from attnlstm.data.formats.compression import open_unpacked
from attnlstm.data.formats.labels import RowProblemError
from attnlstm.data.formats.lines import LONGEST_LINE, read_lines
from attnlstm.data.formats.series import EMPTY, to_numbers
from attnlstm.data.formats.series_lines import SeriesLines, stack_channels

LONGEST_HEADER_LINE = 1 << 20  # bytes
MOST_ATTRIBUTES = 1 << 16
NUMERIC = ("numeric", "real", "integer")
ATTRIBUTE = re.compile(r"@attribute\s+('(?:[^'\\]|\\.)*'|\"[^\"]*\"|[^\s{]+)\s*(.+)", re.IGNORECASE)


class _Attribute(NamedTuple):
    name: str
    kind: str


@register_reader(".arff")
class ArffFile(SeriesLines):
    """The series of one `.arff` file.

    The last attribute is the label, with the classes as its values; `label_names` is in their
    order. If it is numeric, the labels are numbers to predict. `?` is a missing value. Texts and
    sparse rows are refused.
    """

    longest_line = LONGEST_LINE
    comment_marks = (b"%",)

    def _parse_line(self, line: str) -> tuple[np.ndarray, str | None]:
        fields = _split(line)
        if len(fields) != self._num_fields + 1:
            raise RowProblemError("wrong number of values")
        label = fields.pop()
        if self._is_relational:
            channels = [to_numbers(_split(values)) for values in re.split(r"\\n|\n", fields[0])]
        else:
            channels = [to_numbers(fields)]
        series = stack_channels(channels)
        if not series.size:
            raise RowProblemError(EMPTY)
        if label in ("", "?"):
            return series, None
        if self.task != "regression" and label not in self._declared:
            raise RowProblemError("label that the header does not declare")
        return series, label

    def _read_header(self, needs_labels: bool) -> None:
        attributes, inner, self._header_lines = self._read_attributes()
        if len(attributes) < 2:
            raise self._error("has no attributes of values and of the label: add @attribute lines")
        *values, label = attributes
        if label.kind.lower() in NUMERIC:
            self.task = "regression"
        elif not (label.kind.startswith("{") and label.kind.endswith("}")):
            raise self._error(
                f"has a last attribute {label.name!r} that declares no classes: write it "
                "'@attribute target {walking,running}'"
            )
        else:
            try:
                self.label_names = [name for name in _split(label.kind[1:-1]) if name]
            except RowProblemError as problem:
                raise self._error(
                    f"has {problem} in its attribute {label.name!r}: fix it"
                ) from None
        self._declared = set(self.label_names or ())
        self._is_relational = values[0].kind.lower() == "relational"
        if self._is_relational and len(values) > 1:
            raise self._error("has more than a relational attribute and the label: keep only these")
        for name, kind in inner if self._is_relational else values:
            if kind.lower() not in NUMERIC:
                raise self._error(f"has an attribute {name!r} that is no number: remove it")
        self._num_fields = len(values)

    def _read_attributes(self) -> tuple[list[_Attribute], list[_Attribute], int]:
        """Return the attributes, those of a relational one, and the number of the `@data` line."""
        attributes: list[_Attribute] = []
        inner: list[_Attribute] = []
        is_inside = False
        with open_unpacked(self.path) as file:
            for number, content in read_lines(file, LONGEST_HEADER_LINE):
                if len(attributes) + len(inner) > MOST_ATTRIBUTES:
                    raise self._error(f"has more than {MOST_ATTRIBUTES:,} attributes")
                try:
                    line = content.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                except UnicodeDecodeError:
                    raise self._error(f"is not UTF-8 in line {number}: save it as UTF-8") from None
                tag = line.lower()
                if tag.startswith("@data"):
                    return attributes, inner, number
                if tag.startswith("@end"):
                    is_inside = False
                elif found := ATTRIBUTE.fullmatch(line):
                    attribute = _Attribute(_unquote(found[1]), found[2].strip())
                    (inner if is_inside else attributes).append(attribute)
                    is_inside = is_inside or attribute.kind.lower() == "relational"
                elif line and not line.startswith("%") and not tag.startswith("@relation"):
                    raise self._error(
                        f"is not an .arff file: line {number} comes before @data and is neither "
                        "an attribute (@attribute NAME TYPE) nor a comment (%...)"
                    )
        raise self._error("has no @data line: choose an .arff file with a header and data")


def _split(line: str) -> list[str]:
    """Return the values between commas, without the quotes around them.

    Raises:
        RowProblemError: a quote is not closed, or a line break is outside of quotes.
    """
    quote = next((character for character in line if character in "'\""), "'")
    csv.field_size_limit(LONGEST_LINE)  # a setting of the whole process
    reader = csv.reader([line], quotechar=quote, skipinitialspace=True, strict=True)
    try:
        return [field.strip() for field in next(reader, [])]
    except csv.Error:
        raise RowProblemError("a quote that is not closed") from None


def _unquote(name: str) -> str:
    return name[1:-1] if name[0] in "'\"" else name
