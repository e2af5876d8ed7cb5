"""Where conf/ lies: in the package where a wheel put it, and at the top of a checkout."""

from pathlib import Path

import attnlstm

_PACKAGE = Path(attnlstm.__file__).parent

CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parents[1] / "conf"
