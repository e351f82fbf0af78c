"""The command line: `python -m research VERB ...`; the verbs are the functions in `research/cli/`."""

import sys

from research.cli._command import run
from research.errors import obeyed
from research.system.huge_pages import large_pages


def main(arguments=None) -> int:
    """Runs one command; gives the exit status. Mistakes are one message; `--debug` shows the traceback."""
    return obeyed(run, arguments)


if __name__ == "__main__":
    large_pages()
    sys.exit(main())
