"""The command line: `python -m research VERB ...`. Every verb is a function of `research.verbs` as well."""

import os
import signal
import sys

from research.errors import UserError, unknown
from research.knobs import Parser, add_arguments, knobs_of

VERBS = {
    "train": "train an experiment file, or go on with it",
    "evaluate": "evaluate a run's checkpoint on its evaluation sets",
    "predict": "write a run's predictions for a data set to a file",
    "report": "draw the report of a run anew",
    "prepare": "make a data set ready to be read at random",
    "list": "the experiments, with a line on each",
}


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
        return 2
    except KeyboardInterrupt:
        # Dying of the signal, rather than exiting, stops a shell's loop over seeds too.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 130


def _dispatch(arguments):
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: python -m research VERB ... (VERB --help tells more; --debug shows tracebacks)\n")
        print("\n".join(f"  {name:<10}{text}" for name, text in VERBS.items()))
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        raise unknown("verb", verb, VERBS)
    return globals()[f"_{verb}"](rest, Parser(prog=f"python -m research {verb}", description=VERBS[verb]))


def _train(arguments, parser):
    parser.add_argument("file", metavar="FILE", help="an experiment, such as experiments/digits.py")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    parser.add_argument("--runs", metavar="DIR", help="where run folders are made (default $RESEARCH_RUNS or runs)")
    parser.add_argument("--run-dir", metavar="DIR", help="this very folder, instead of one named by the knobs")
    parser.add_argument("--again", action="store_true", help="train anew in a new folder")
    parser.add_argument("--from", dest="start_from", metavar="RUN@STEP", help="begin at another run's checkpoint")
    parser.add_argument("--wandb", metavar="PROJECT", help="write to Weights & Biases too")
    parser.add_argument("--mlflow", metavar="EXPERIMENT", help="write to MLflow too")
    file = next((a for a in arguments if not a.startswith("-")), None)
    knobs = {}
    if file is not None:
        from research.source import load

        loaded = load(file)
        knobs = knobs_of(loaded.function)
        add_arguments(parser, knobs)
        parser.description = loaded.doc
    given = vars(parser.parse_args(arguments))
    from research import writers
    from research.verbs import train

    listen = [getattr(writers, name)(given[name]) for name in ("wandb", "mlflow") if given[name]]
    options = {name: given[name] for name in ("seed", "runs", "run_dir", "again", "start_from")}
    train(given["file"], listen=listen, **options, **{name: given[name] for name in knobs if name in given})
    return 0


def _evaluate(arguments, parser):
    parser.add_argument("run", metavar="RUN", help="a run folder; RUN@best or RUN@STEP for one checkpoint")
    parser.add_argument("--on", metavar="NAME", help="one evaluation set (default: all)")
    given = parser.parse_args(arguments)
    from research.verbs import evaluate

    evaluate(given.run, on=given.on)
    return 0


def _predict(arguments, parser):
    parser.add_argument("run", metavar="RUN", help="a run folder; RUN@best or RUN@STEP for one checkpoint")
    parser.add_argument("data", metavar="DATA", help="an evaluation set of the run, or a path to records")
    parser.add_argument("--out", metavar="FILE", help="default RUN/predictions/DATA.jsonl")
    given = parser.parse_args(arguments)
    from research.verbs import predict

    predict(given.run, given.data, out=given.out)
    return 0


def _report(arguments, parser):
    parser.add_argument("run", metavar="RUN")
    given = parser.parse_args(arguments)
    from research.verbs import report

    print(report(given.run))
    return 0


def _prepare(arguments, parser):
    parser.add_argument("data", metavar="DATA", help="a data set's name, or a path to records")
    parser.add_argument("--out", metavar="FOLDER", help="where to put it")
    given = parser.parse_args(arguments)
    from research.data.prepare import prepare

    print(prepare(given.data, out=given.out))
    return 0


def _list(arguments, parser):
    parser.add_argument("folder", nargs="?", default="experiments")
    from research.source import experiments

    found = experiments(parser.parse_args(arguments).folder)
    width = max(map(len, found))
    print("\n".join(f"{file:<{width}}  {text}" for file, text in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
