"""The command line: one file per verb, and what they share."""

from pathlib import Path

import attnlstm

_PACKAGE = Path(attnlstm.__file__).parent

CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parents[1] / "conf"
"""The folder of configuration files: inside the package in a wheel, at the top of a checkout."""
