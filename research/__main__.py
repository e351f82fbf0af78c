"""The command line: `python -m research VERB ...`. Every verb is a function of `research.verbs` as well."""

import sys

from research import commands
from research.errors import obeyed, unknown
from research.runs.knobs import Parser
from research.system.huge_pages import large_pages

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
    return obeyed(_dispatch, arguments)


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
    large_pages()
    sys.exit(main())
