"""The command line: `python -m research VERB ...`; the verbs are the functions in `research/cli/`."""

import contextlib
import os
import sys

from research.cli._command import run
from research.errors import obeyed
from research.files import Patient
from research.system.huge_pages import large_pages


def main(arguments=None) -> int:
    """Runs one command; gives the exit status. Mistakes are one message; `--debug` shows the traceback."""
    with contextlib.redirect_stdout(Patient(sys.stdout)), contextlib.redirect_stderr(Patient(sys.stderr)):
        return obeyed(run, arguments)


def _let_go(stream):
    """Python flushes a stream at its end, and fails if nobody reads it any more: then the rest goes nowhere."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    large_pages()
    try:
        sys.exit(main())
    finally:
        _let_go(sys.stdout)
        _let_go(sys.stderr)
