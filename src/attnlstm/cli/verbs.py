"""The command `attnlstm`: it finds the verb and hands over to its file in this folder."""

import ast
import runpy
import sys
from pathlib import Path

import attnlstm
from attnlstm.cli.conf_folder import CONF


def main() -> None:
    """Run `attnlstm VERB ...` as `python -m attnlstm.cli.VERB ...`."""
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    verbs = sorted(path.stem for path in CONF.glob("*.yaml"))
    if verb in ("-h", "--help"):
        print(_help(verbs))
    elif verb == "--version":
        print("attnlstm", attnlstm.__version__)
    elif verb in verbs:
        del sys.argv[1]
        # As a program of its own: the processes that Lightning starts for more devices repeat it.
        runpy.run_module(f"attnlstm.cli.{verb}", run_name="__main__", alter_sys=True)
    else:
        print(f"error: {_complaint(verb, verbs)}", file=sys.stderr)
        sys.exit(2)


def _help(verbs: list[str]) -> str:
    width = max(map(len, verbs)) + 2
    lines = [f"  {verb:{width}}{_summary(verb)}" for verb in verbs]
    return "\n".join(
        [
            "Sequence classification with an LSTM and attention, for texts and time series.",
            "",
            "Usage: attnlstm VERB [key=value ...]",
            "",
            *lines,
            "",
            "attnlstm VERB --help lists the keys of a verb and shows examples.",
        ]
    )


def _summary(verb: str) -> str:
    """The first line of the verb's file, which is not imported: that would take half a second."""
    source = Path(__file__).with_name(f"{verb}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def _complaint(verb: str, verbs: list[str]) -> str:
    from attnlstm.config.checks import nearest  # late: --help does without
    from attnlstm.console import printable, shorten

    return f"unknown verb {printable(shorten(verb))}: did you mean {nearest(verb, verbs)}?"
