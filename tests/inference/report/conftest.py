import pytest

from attnlstm.inference.report.classification import ClassificationReport
from tests.inference.report.page import Page
from tests.inference.report.rows import NAMES, word_spans


@pytest.fixture(scope="session")
def read_report(tmp_path_factory):
    """`read_report(report, rows)`: the parsed page of a report on these predictions."""
    path = tmp_path_factory.mktemp("report") / "report.html"

    def read(report, rows, title="Predictions", subtitle=""):
        for row in rows:
            report.add(row)
        report.write(path, title=title, subtitle=subtitle)
        return Page(path.read_text(encoding="utf-8")).root

    return read


@pytest.fixture(scope="session")
def read(read_report):
    """`read(rows)`: the parsed page of the predictions of a classifier."""

    def read(rows, *, names=NAMES, spans=word_spans, max_examples=300, **titles):
        return read_report(ClassificationReport(names, spans, max_examples), rows, **titles)

    return read
