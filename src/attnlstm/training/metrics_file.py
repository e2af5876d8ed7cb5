"""metrics.json, the metrics of the finished run."""

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path

from attnlstm.files import replacing


def write_metrics(path: Path, metrics: Mapping[str, float]) -> None:
    """Write metrics as JSON, which has no NaN and no infinity: these become null."""
    values = {name: value if isfinite(value) else None for name, value in metrics.items()}
    with replacing(path) as partial:
        partial.write_text(json.dumps(values, indent=2) + "\n")
