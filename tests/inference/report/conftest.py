import pytest

from tests.inference.report.pages import Page, write


@pytest.fixture(scope="session")
def read(tmp_path_factory):
    """`read(rows, **options)`: the parsed page of these predictions."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    return lambda rows, **options: Page(write(path, rows, **options)).root
