"""The command `attnlstm`, which runs the file of a verb in this folder."""

import ast
import runpy
import sys
from pathlib import Path

import attnlstm
from attnlstm.cli import CONF

HELP = """\
Sequence classification with an LSTM and attention, for texts and time series.

Usage: attnlstm VERB [key=value ...]

{verbs}

attnlstm VERB --help lists the keys of a verb and shows examples."""


def main() -> None:
    """Run `attnlstm VERB ...` as `python -m attnlstm.cli.VERB ...`."""
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    verbs = sorted(path.stem for path in CONF.glob("*.yaml"))
    if verb in ("-h", "--help"):
        width = max(map(len, verbs)) + 2
        print(HELP.format(verbs="\n".join(f"  {v:{width}}{_summary(v)}" for v in verbs)))
    elif verb == "--version":
        print("attnlstm", attnlstm.__version__)
    elif verb in verbs:
        del sys.argv[1]
        # As a program of its own: the processes that Lightning starts for more devices repeat it.
        runpy.run_module(f"attnlstm.cli.{verb}", run_name="__main__", alter_sys=True)
    else:
        from attnlstm.config.checks import similar  # late: --help does without
        from attnlstm.console import printable, shorten

        meant = similar(verb, verbs)
        hint = f"did you mean {meant}?" if meant else f"expected one of {', '.join(verbs)}"
        print(f"error: unknown verb {printable(shorten(verb))}: {hint}", file=sys.stderr)
        sys.exit(2)


def _summary(verb: str) -> str:
    """Return the first line of a verb's file without importing it, which takes half a second."""
    source = Path(__file__).with_name(f"{verb}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
