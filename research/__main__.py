"""The command line: `python -m research VERB ...`. The verbs are the public functions in `research/cli/`."""

import contextlib
import os
import sys
import threading

from research.cli._command import run
from research.errors import print_error, run_command
from research.files import TolerantStream
from research.system.allocator import keep_memory

EXIT = 5.0  # seconds


def main(arguments=None) -> int:
    """Run one command and return its exit status.

    A UserError is printed as one message; `--debug` shows its traceback.
    """
    with contextlib.redirect_stdout(TolerantStream(sys.stdout)), contextlib.redirect_stderr(TolerantStream(sys.stderr)):
        return run_command(run, arguments)


def _flush(stream):
    """Flush a stream; if its reader is gone, redirect it to /dev/null, or Python's own flush at exit would fail."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _limit_exit(error):
    """After a failure, end the process within `EXIT` seconds, even if threads are left.

    Python waits for threads. Those of Orbax wait ten minutes for a folder that could not be created. Every save that
    can be completed is on disk by now, and the trackers are closed.
    """
    status = error.code if isinstance(error, SystemExit) else 1
    if status:
        timer = threading.Timer(EXIT, os._exit, [status])
        timer.daemon = True
        timer.start()


if __name__ == "__main__":
    keep_memory()
    sys.excepthook = print_error
    try:
        sys.exit(main())
    finally:
        _flush(sys.stdout)
        _flush(sys.stderr)
        _limit_exit(sys.exc_info()[1])
