"""The documentation site."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_site_builds_strictly_and_needs_no_network(tmp_path: Path) -> None:
    """mkdocs.yml is strict: a broken link or anchor is an error."""
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    reference = (tmp_path / "reference" / "lstm.html").read_text()
    assert "recurrent_dropout" in reference
    loads = re.compile(r"<(?:script|link|img)\b[^>]*(?:src|href)=\"(https?:[^\"]*)")
    for page in tmp_path.rglob("*.html"):
        assert not loads.findall(page.read_text()), page
