"""Verbs for many runs: sweeps, reproduction over seeds, comparison, listing."""

import os

from research.errors import UserError, printable


def sweep(
    file: str | None = None, *, search: str = "tpe", stopping: str = "none", metric: str | None = None,
    mode: str | None = None, budget: str | None = None, workers: int = 1, seed: int = 0, runs: str | None = None,
    folder: str | None = None, worker: str | None = None, trust: bool = False, attached: bool = False,
    **knobs,
):  # fmt: skip
    """Search over the knobs of an experiment, or resume a search.

    Give a knob one value, or a set of values to search. Write a range as 1e-4:1e-2, a range on a logarithmic scale as
    1e-4:1e-2:log, and choices as a,b,c. With --worker, it runs the Python source that is stored in the sweep folder.

    file: an experiment file, such as experiments/digits.py
    search: grid, random, tpe, gp or evolution
    stopping: early stopping of bad trials: none, asha, hyperband or median
    metric (SET/NAME): the metric to optimise (default: the metric of Experiment(best=...))
    mode: max to maximise the metric, min to minimise it
    budget: 50trials (or 50), 2h, 1e6steps, or several separated by commas (default 30trials)
    workers: worker processes on this host; 0 only creates the sweep folder
    seed: the seed of the search and of every run
    runs (DIR): parent folder of the sweep folder (default $RESEARCH_RUNS or runs)
    folder (DIR): the sweep folder, instead of one named after the search space
    worker (DIR): work on the sweep in this folder, which several hosts can share
    trust: run the source of a --worker folder that you did not make on this machine
    """
    from research.runs.trust import check_trusted
    from research.search import sweep
    from research.search.study import read_sweep
    from research.search.worker import leave_with_parent, work

    if worker:
        if attached:  # end when the process that started this worker ends
            leave_with_parent()
        else:
            check_trusted(read_sweep(worker).folder, trust=trust)
        work(worker, draw=not attached)
        return
    if file is None:
        raise UserError("no experiment given. Give a FILE such as experiments/digits.py, or --worker FOLDER.")
    sweep(
        file, search=search, stopping=stopping, metric=metric, mode=mode, budget=budget, workers=workers, seed=seed,
        runs=runs, folder=folder, **knobs,
    )  # fmt: skip


def reproduce(files: list[str], *, seeds: int = 3, runs: str | None = None, trust: bool = False, **knobs):
    """Train experiments with several seeds; report means with standard errors, and check claims.

    For a RUN folder, it runs the Python source that is stored there.

    files (FILE): experiment files, or finished RUN folders to record
    seeds: the number of seeds, from seed 0
    runs (DIR): parent folder of the run folders (default $RESEARCH_RUNS or runs)
    trust: run the source of RUN folders that you did not make on this machine
    """
    from research.studies.reproduce import reproduce

    reproduce(files, seeds=seeds, runs=runs, trust=trust, **knobs)


def compare(
    runs: list[str], *, metric: str | None = None, independent: bool = False, same_code: bool = False,
    out: str | None = None, no_regression: bool = False, margin: float = 0.0,
) -> int:  # fmt: skip
    """Compare runs with the first one: list the differences and test whether they are significant.

    runs (RUN): run folders; each is compared with the first
    metric (SET/NAME): the main metric (default: the metric of the first claim)
    independent: the evaluation sets contain different examples (an unpaired test)
    same_code: do not treat runs of different commits as different recipes
    out (FILE): the output page (default report/compare-NAMES.html of the first run, for the other NAMES)
    no_regression: exit with status 1 if the second run (or recipe) is significantly worse: one-sided test, 95 %
    margin: a tolerated difference for the worse, in units of the metric
    """
    from research.report.compare import compare
    from research.report.compare import no_regression as tested
    from research.report.compare_page import format_comparison, write

    options = {"metric": metric, "independent": independent, "same_code": same_code}
    regression = tested(runs, margin=margin, **options) if no_regression else None
    comparison = compare(runs, **options)
    print(printable(format_comparison(comparison)))  # names of metrics and knobs are not ours
    print(f"page: {write(comparison, out)}")
    if regression:
        print(regression.text)
    return int(bool(regression and regression.shown))


def runs(
    folder: str | None = None, *, where: list[str] = (), sort: str | None = None, status: str | None = None
):  # fmt: skip
    """List runs, filtered and sorted.

    folder: the folder to search (default $RESEARCH_RUNS or runs)
    where (CONDITION): conditions, such as network=cnn 'learning_rate>=1e-3' 'test/accuracy>0.9'
    sort (NAME): sort by a metric, a knob or step, best first; --sort=-NAME reverses the order
    status: finished, running, preempted, failed, damaged, ...
    """
    from research.report.runs import format_runs, runs

    print(format_runs(runs(folder or os.environ.get("RESEARCH_RUNS", "runs"), where=where, sort=sort, status=status)))
