"""The command line: `python -m research VERB ...`. Every verb is a function of `research.verbs` as well."""

import os
import signal
import sys

from research import commands
from research.errors import UserError, unknown
from research.knobs import Parser

VERBS = {
    verb.__name__.rstrip("_"): verb
    for verb in (
        commands.train, commands.folds, commands.plan, commands.doctor, commands.sweep, commands.evaluate,
        commands.predict, commands.reproduce, commands.report, commands.compare, commands.runs,
        commands.prepare, commands.list_,
    )
}  # fmt: skip


def main(arguments=None) -> int:
    """Runs one command; gives the exit status. Mistakes are one message; `--debug` shows the traceback."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    try:
        return _dispatch([a for a in arguments if a != "--debug"])
    except UserError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        _end(2, str(error))
        return 2
    except KeyboardInterrupt:
        # Dying of the signal, rather than exiting, stops a shell's loop over seeds too.
        _end(130, "KeyboardInterrupt")
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 130


def _end(code, text):
    """In a job of several processes, its end on all of them; they would wait for this one."""
    if "research.distributed" in sys.modules:
        sys.modules["research.distributed"].job().fail(code, text)


def _dispatch(arguments):
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: python -m research VERB ... (VERB --help tells more; --debug shows tracebacks)\n")
        print("\n".join(f"  {name:<10}{verb.__doc__}" for name, verb in VERBS.items()))
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        raise unknown("verb", verb, VERBS)
    run = VERBS[verb]
    return run(rest, Parser(prog=f"python -m research {verb}", description=run.__doc__)) or 0


if __name__ == "__main__":
    sys.exit(main())
