"""User errors: messages with the given value, the expected value and the nearest valid name."""

import contextlib
import difflib
import math
import os
import re
import signal
import sys
import traceback


class UserError(Exception):
    """A mistake in a command, an experiment or its data. The command line prints its message without a traceback."""


def nearest(given, valid):
    """Return `" Did you mean 'x'?"` for the valid name closest to `given`, or an empty string if none is close.

    Initials count as close: `lr` is `learning_rate`.
    """
    names, letters = [str(name) for name in valid], str(given).strip("-")
    close = [name for name in names if len(letters) > 1 and letters == "".join(re.findall(r"(?<![a-z])[a-z]", name))]
    close = close or difflib.get_close_matches(str(given), names, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def format_names(names, most: int = 8):
    """Format names for a message: the first `most`, and the number of those left out."""
    first = ", ".join(str(name) for name in names[:most])
    return f"{first} and {len(names) - most} more" if len(names) > most else first


def unknown(kind, given, valid):
    """Return a UserError for an unknown name, with the nearest valid name and all valid names."""
    names = ", ".join(sorted(str(name) for name in valid)) or "none"
    return UserError(f"unknown {kind} {given!r}.{nearest(given, valid)} Valid: {names}.")


MASK = "***"
SHORTEST = 8  # characters; hiding shorter values would garble all output
_hidden: set[str] = set()  # secret values of this process


def hide(value: str):
    """Replace this value by `MASK` in all output and files of this process from now on."""
    if len(value) >= SHORTEST:
        _hidden.add(value)


def masked(text: str) -> str:
    """Replace all secret values in a text by `MASK`."""
    for value in sorted(_hidden, key=len, reverse=True):
        text = text.replace(value, MASK)
    return text


UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # also what reorders text


def printable(text: str) -> str:
    """Replace control characters by U+FFFD, except newline and tab, and secret values by `MASK`.

    Otherwise a name in a file from elsewhere could steer the terminal, or reorder the text around it.
    """
    return UNPRINTABLE.sub("\ufffd", masked(text))


def print_error(kind, error, trace):
    """Print a traceback without control characters, as `sys.excepthook`: messages may quote a file from elsewhere."""
    sys.stderr.write(printable("".join(traceback.format_exception(kind, error, trace))))


@contextlib.contextmanager
def no_exit(what: str):
    """Convert `sys.exit` in the code of an experiment to a UserError; `what` names the unfinished work.

    Otherwise `sys.exit(0)` in a data source would end an unfinished run with the status of a finished one.
    """
    try:
        yield
    except SystemExit as error:
        frames = traceback.extract_tb(error.__traceback__)
        place = [frame for frame in frames if "_sitebuiltins" not in frame.filename][-1]
        raise UserError(
            f"{place.filename}, line {place.lineno}: sys.exit({error.code!r}) before {what} was complete. Raise an "
            "exception to report an error; to end a run early, use Experiment(steps=...) or early_stop."
        ) from error


@contextlib.contextmanager
def own_line(files):
    """Convert an error in the code of an experiment to a UserError that ends with the line of one of its `files`.

    The line is the innermost one. A UserError gets it only if another error caused it, otherwise its message says what
    is wrong; an error without such a line remains as it is. `--debug` shows the traceback.
    """
    try:
        yield
    except Exception as error:
        cause = error.__cause__ if isinstance(error, UserError) else error
        frames = traceback.extract_tb(cause.__traceback__) if isinstance(cause, Exception) else ()
        own = [frame for frame in frames if frame.filename in files]
        if not own:
            raise
        text = str(error).strip()
        if not isinstance(error, UserError):
            text = f"{type(error).__name__}: " + text.split("\n\n")[0]
        place = f"{own[-1].filename}, line {own[-1].lineno}"
        raise UserError(f"{text}\nThe last line of the experiment, {place}:\n    {own[-1].line}") from cause


def check_path(value, what: str) -> None:
    """Raise UserError unless `value` is a path or a name, of `what`."""
    if not isinstance(value, str | os.PathLike):
        hint = ", such as its .folder" if hasattr(value, "folder") else ""
        raise UserError(f"a value of type {type(value).__name__} was given; expected {what}{hint}.")


def check_range(owner: str, **numbers) -> None:
    """Raise UserError for a number out of range; `numbers` is {argument: (value, lowest, highest)}.

    A value may also be a schedule, a function of the step, which is not checked.
    """
    for name, (value, lowest, highest) in numbers.items():
        if not callable(value) and not (lowest <= value <= highest and value < math.inf):
            expected = f"{lowest} to {highest}" if highest < math.inf else f"a finite number of at least {lowest}"
            raise UserError(f"{owner}({name}={value}); expected {expected}.")


def run_command(command, arguments=None) -> int:
    """Run `command(arguments)` and return its exit status.

    A UserError is printed as one message and gives exit status 2; with `--debug` it is raised. Ctrl-C ends the process
    by the signal itself.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    try:
        return command([a for a in arguments if a != "--debug"])
    except UserError as error:
        if debug:
            raise
        print(printable(f"error: {error}"), file=sys.stderr)
        _end_job(2, str(error))
        return 2
    except KeyboardInterrupt:
        # If the process dies of the signal instead of exiting, a shell loop over seeds stops too.
        _end_job(130, "KeyboardInterrupt")
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 130


def _end_job(code, text):
    """End all processes of a job; otherwise the others would wait for this one."""
    if "research.distributed.job" in sys.modules:
        sys.modules["research.distributed.job"].job().fail(code, text)
