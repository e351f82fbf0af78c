"""The verbs of the command line, one function each: it adds what its verb takes to a parser, parses, and runs."""

import argparse
import os

from research.errors import UserError
from research.runs.knobs import add_arguments, knobs_of


def train_arguments(arguments, parser):
    """What a `train` command line gives: ({name: value}, the knobs of its experiment). Raises UserError."""
    parser.add_argument("file", metavar="FILE", help="an experiment, such as experiments/digits.py")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    parser.add_argument("--runs", metavar="DIR", help="where run folders are made (default $RESEARCH_RUNS or runs)")
    parser.add_argument("--run-dir", metavar="DIR", help="this very folder, instead of one named by the knobs")
    parser.add_argument("--again", action="store_true", help="train anew in a new folder")
    parser.add_argument("--from", dest="start_from", metavar="RUN@STEP", help="begin at another run's checkpoint")
    parser.add_argument("--strategy", default="jit", help="jit, or pmap: one program on every device (default jit)")
    parser.add_argument("--watch", action="store_true", help="record gradients, weights, activations of every layer")
    parser.add_argument("--no-report", dest="page", action="store_false", help="leave the report to `report RUN`")
    parser.add_argument("--profile", action="store_true", help="trace a few steps, and tell what the time goes to")
    parser.add_argument("--wandb", metavar="PROJECT", help="write to Weights & Biases too")
    parser.add_argument("--mlflow", metavar="EXPERIMENT", help="write to MLflow too")
    loaded, knobs = _add_knobs(next((a for a in arguments if not a.startswith("-")), None), parser)
    parser.description = loaded.doc if loaded else parser.description
    return vars(parser.parse_args(arguments)), knobs


def _add_knobs(file, parser):
    """(Loaded, its knobs) of an experiment file, which the parser now takes too; (None, {}) without a file."""
    if file is None:
        return None, {}
    from research.runs.experiment_file import load

    loaded = load(file)
    knobs = knobs_of(loaded.function)
    if taken := set(knobs) & {action.dest for action in parser._actions}:
        raise UserError(f"{file}: a knob may not be called {sorted(taken)[0]!r}; `{parser.prog}` itself has that.")
    add_arguments(parser, knobs)
    return loaded, knobs


def train(arguments, parser):
    """Train an experiment file, or go on with it."""
    given = _run_arguments(arguments, parser)
    from research import verbs

    verbs.train(**given)


def folds(arguments, parser):
    """Train an experiment file once a fold, and tell the mean and spread of its numbers."""
    given = _run_arguments(arguments, parser)
    from research.studies.cross_validation import cross_validate

    cross_validate(**given)


def _run_arguments(arguments, parser):
    """What `verbs.train` takes, of a `train` command line."""
    from research.distributed.job import join

    join()  # before the experiment is loaded, which may touch the devices
    given, knobs = train_arguments(arguments, parser)
    from research.tracking import profile, trackers

    listen = [getattr(trackers, name)(given[name]) for name in ("wandb", "mlflow") if given[name]]
    listen += [profile.profiler] if given["profile"] else []
    names = ("file", "seed", "runs", "run_dir", "again", "start_from", "strategy", "watch", "page")
    options = {name: given[name] for name in names}
    return {"listen": listen, **options, **{name: given[name] for name in knobs if name in given}}


def plan(arguments, parser):
    """What an experiment's step takes of memory and arithmetic, before anything runs."""
    parser.add_argument("file", metavar="FILE", help="an experiment, such as experiments/digits.py")
    parser.add_argument("--topology", metavar="NAME", help="compile for devices that are not here, such as v5e:4x4")
    loaded, knobs = _add_knobs(next((a for a in arguments if not a.startswith("-")), None), parser)
    given = vars(parser.parse_args(arguments))
    from research.diagnose.cost import described, plan, topology
    from research.experiment import build
    from research.runs.opened import knob_values

    values = knob_values(loaded, {name: given[name] for name in knobs if name in given})
    built = build(loaded.function(**values), devices=topology(given["topology"]) if given["topology"] else None)
    print("\n".join(filter(None, [described(plan(built)), built.table])))


def doctor(arguments, parser):
    """Check an experiment before it runs, or a run by what it left."""
    parser.add_argument(
        "file", metavar="FILE|RUN", help="an experiment, such as experiments/digits.py; or a run folder"
    )
    parser.add_argument("--no-rate", dest="rate_test", action="store_false", help="without the learning-rate test")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    parser.add_argument("--runs", metavar="DIR", help="where its folder is made (default $RESEARCH_RUNS or runs)")
    parser.add_argument("--folder", metavar="DIR", help="this very folder, for doctor.html and its pictures")
    file = next((a for a in arguments if a.endswith(".py") and not a.startswith("-")), None)
    _, knobs = _add_knobs(file, parser)
    given = vars(parser.parse_args(arguments))
    from research.diagnose.doctor import doctor

    options = {name: given[name] for name in ("file", "rate_test", "seed", "runs", "folder")}
    return int(any(found.problem for found in doctor(**options, **{k: given[k] for k in knobs if k in given})))


def sweep(arguments, parser):
    """Search the knobs of an experiment with many runs, or go on with it."""
    parser.add_argument("file", metavar="FILE", nargs="?", help="an experiment, such as experiments/digits.py")
    parser.add_argument("--search", default="tpe", help="grid, random, tpe (the default), gp or evolution")
    parser.add_argument(
        "--stopping", default="none", help="of bad trials: none (the default), asha, hyperband or median"
    )
    parser.add_argument("--metric", metavar="SET/NAME", help="default: that of the experiment's best checkpoint")
    parser.add_argument("--mode", help="max or min: which values of the metric are good")
    parser.add_argument("--budget", help="50trials, 2h, 1e6steps, or several with commas (default 30trials)")
    parser.add_argument("--workers", type=int, default=1, help="processes on this host; 0 only prepares (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the search and of every run (default 0)")
    parser.add_argument(
        "--runs", metavar="DIR", help="where the sweep's folder is made (default $RESEARCH_RUNS or runs)"
    )
    parser.add_argument("--folder", metavar="DIR", help="this very folder, instead of one named by what is searched")
    parser.add_argument("--worker", metavar="DIR", help="work on the sweep in this folder, which hosts may share")
    parser.add_argument("--attached", action="store_true", help=argparse.SUPPRESS)  # leave when the parent has gone
    file = next((a for a in arguments if a.endswith(".py") and not a.startswith("-")), None)
    _, knobs = _add_knobs(file, parser)
    if knobs:
        from research.search.space import HOW

        parser.description += f"\n\nA knob is one value, or what is to be searched. {HOW}"
    given = vars(parser.parse_args(arguments))
    from research.search import sweep
    from research.search.worker import leave_with_parent, work

    if given["worker"]:
        if given["attached"]:
            leave_with_parent()
        work(given["worker"], draw=not given["attached"])
        return
    if file is None:
        raise UserError("which experiment? Give a FILE such as experiments/digits.py, or --worker FOLDER.")
    options = ("search", "stopping", "metric", "mode", "budget", "workers", "seed", "runs", "folder")
    options = {name: given[name] for name in options}
    sweep(file, **options, **{name: given[name] for name in knobs if name in given})


def evaluate(arguments, parser):
    """Evaluate a run's checkpoint on its evaluation sets."""
    parser.add_argument("run", metavar="RUN", help="a run folder; RUN@best or RUN@STEP for one checkpoint")
    parser.add_argument("--on", metavar="NAME", help="one evaluation set (default: all)")
    given = parser.parse_args(arguments)
    from research import verbs

    verbs.evaluate(given.run, on=given.on)


def predict(arguments, parser):
    """Write a run's predictions for a data set to a file."""
    parser.add_argument("run", metavar="RUN", help="a run folder; RUN@best or RUN@STEP for one checkpoint")
    parser.add_argument("data", metavar="DATA", help="an evaluation set of the run, or a path to records")
    parser.add_argument("--out", metavar="FILE", help="default RUN/predictions/DATA.jsonl")
    given = parser.parse_args(arguments)
    from research import verbs

    verbs.predict(given.run, given.data, out=given.out)


def reproduce(arguments, parser):
    """Hold an experiment's claims against several seeds."""
    parser.add_argument("files", metavar="FILE", nargs="+", help="experiments, or finished RUN folders to record")
    parser.add_argument("--seeds", type=int, default=3, help="how many: 0, 1, 2, ... (default 3)")
    parser.add_argument("--runs", metavar="DIR", help="where run folders are made (default $RESEARCH_RUNS or runs)")
    files = [a for a in arguments if a.endswith(".py") and not a.startswith("-")]
    _, knobs = _add_knobs(files[0] if len(files) == 1 else None, parser)
    given = vars(parser.parse_args(arguments))
    from research.studies.reproduce import reproduce

    chosen = {name: given[name] for name in knobs if name in given}
    reproduce(given["files"], seeds=given["seeds"], runs=given["runs"], **chosen)


def report(arguments, parser):
    """Draw the report of a run anew."""
    parser.add_argument("run", metavar="RUN")
    given = parser.parse_args(arguments)
    from research import verbs

    print(verbs.report(given.run))


def compare(arguments, parser):
    """Hold runs against the first of them: what differs, by how much, and whether that is chance."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run folders; the first is what others are held against")
    parser.add_argument("--metric", metavar="SET/NAME", help="the main metric (default: that of the first claim)")
    parser.add_argument("--independent", action="store_true", help="the evaluation sets are not of the same examples")
    parser.add_argument("--same-code", action="store_true", help="other commits are no other recipe")
    parser.add_argument("--out", metavar="FILE", help="the page (default report/compare.html of the first run)")
    parser.add_argument(
        "--no-regression", action="store_true",
        help="exit with 1 where the second run (or recipe) is shown to be worse than the first: one-sided, 95 %%",
    )  # fmt: skip
    parser.add_argument("--margin", type=float, default=0.0, help="a loss that does not count, in units of the metric")
    given = parser.parse_args(arguments)
    from research.report.compare import compare, no_regression
    from research.report.compare_page import told, write

    how = {"metric": given.metric, "independent": given.independent, "same_code": given.same_code}
    judged = no_regression(given.runs, margin=given.margin, **how) if given.no_regression else None
    found = compare(given.runs, **how)
    print(told(found))
    print(f"page: {write(found, given.out)}")
    if judged:
        print(judged.text)
    return int(bool(judged and judged.shown))


def runs(arguments, parser):
    """List runs, with conditions and in order."""
    parser.add_argument("folder", metavar="FOLDER", nargs="?", help="default $RESEARCH_RUNS or runs")
    parser.add_argument(
        "--where", metavar="CONDITION", nargs="+", action="extend", default=[],
        help="such as network=cnn 'learning_rate>=1e-3' 'test/accuracy>0.9'",
    )  # fmt: skip
    parser.add_argument("--sort", metavar="NAME", help="a metric, a knob, step, ...: best first; --sort=-NAME: last")
    parser.add_argument("--status", metavar="STATUS", help="finished, running, preempted, failed, damaged, ...")
    given = parser.parse_args(arguments)
    from research.report.runs import runs, told

    folder = given.folder or os.environ.get("RESEARCH_RUNS", "runs")
    print(told(runs(folder, where=given.where, sort=given.sort, status=given.status)))


def prepare(arguments, parser):
    """Make a data set ready to be read at random."""
    parser.add_argument("data", metavar="DATA", help="a data set's name, or a path to records")
    parser.add_argument("--out", metavar="FOLDER", help="where to put it")
    given = parser.parse_args(arguments)
    from research.data.readers.prepare import prepare

    print(prepare(given.data, out=given.out))


def list_(arguments, parser):
    """The experiments, with a line on each."""
    parser.add_argument("folder", nargs="?", default="experiments")
    from research.runs.experiment_file import experiments

    found = experiments(parser.parse_args(arguments).folder)
    width = max(map(len, found))
    print("\n".join(f"{file:<{width}}  {text}" for file, text in found.items()))
