"""Verbs of many runs: searching knobs, holding claims against seeds, comparing, listing."""

import os

from research.errors import UserError


def sweep(
    file: str | None = None, *, search: str = "tpe", stopping: str = "none", metric: str | None = None,
    mode: str | None = None, budget: str | None = None, workers: int = 1, seed: int = 0, runs: str | None = None,
    folder: str | None = None, worker: str | None = None, attached: bool = False, **knobs,
):  # fmt: skip
    """Search the knobs of an experiment with many runs, or go on with it.

    A knob is one value, or what is to be searched. A range looks like 1e-4:1e-2, on a logarithmic scale 1e-4:1e-2:log,
    and choices like a,b,c.

    file: an experiment, such as experiments/digits.py
    search: grid, random, tpe, gp or evolution
    stopping: of bad trials: none, asha, hyperband or median
    metric (SET/NAME): default: that of the experiment's best checkpoint
    mode: max or min: which values of the metric are good
    budget: 50trials, 2h, 1e6steps, or several with commas (default 30trials)
    workers: processes on this host; 0 only prepares
    seed: of the search and of every run
    runs (DIR): where the sweep's folder is made (default $RESEARCH_RUNS or runs)
    folder (DIR): this very folder, instead of one named by what is searched
    worker (DIR): work on the sweep in this folder, which hosts may share
    """
    from research.search import sweep
    from research.search.worker import leave_with_parent, work

    if worker:
        if attached:  # by the process that started this one
            leave_with_parent()
        work(worker, draw=not attached)
        return
    if file is None:
        raise UserError("which experiment? Give a FILE such as experiments/digits.py, or --worker FOLDER.")
    sweep(
        file, search=search, stopping=stopping, metric=metric, mode=mode, budget=budget, workers=workers, seed=seed,
        runs=runs, folder=folder, **knobs,
    )  # fmt: skip


def reproduce(files: list[str], *, seeds: int = 3, runs: str | None = None, **knobs):
    """Hold an experiment's claims against several seeds.

    files (FILE): experiments, or finished RUN folders to record
    seeds: how many: 0, 1, 2, ...
    runs (DIR): where run folders are made (default $RESEARCH_RUNS or runs)
    """
    from research.studies.reproduce import reproduce

    reproduce(files, seeds=seeds, runs=runs, **knobs)


def compare(
    runs: list[str], *, metric: str | None = None, independent: bool = False, same_code: bool = False,
    out: str | None = None, no_regression: bool = False, margin: float = 0.0,
) -> int:  # fmt: skip
    """Compare runs with the first of them: what differs, by how much, and whether that is chance.

    runs (RUN): run folders; the others are compared with the first
    metric (SET/NAME): the main metric (default: that of the first claim)
    independent: the evaluation sets are not of the same examples
    same_code: other commits are no other recipe
    out (FILE): the page (default report/compare.html of the first run)
    no_regression: exit with 1 if the second run (or recipe) is shown to be worse than the first: one-sided, 95 %
    margin: a loss that does not count, in units of the metric
    """
    from research.report.compare import compare
    from research.report.compare import no_regression as tested
    from research.report.compare_page import format_comparison, write

    how = {"metric": metric, "independent": independent, "same_code": same_code}
    judged = tested(runs, margin=margin, **how) if no_regression else None
    found = compare(runs, **how)
    print(format_comparison(found))
    print(f"page: {write(found, out)}")
    if judged:
        print(judged.text)
    return int(bool(judged and judged.shown))


def runs(
    folder: str | None = None, *, where: list[str] = (), sort: str | None = None, status: str | None = None
):  # fmt: skip
    """List runs, with conditions and in order.

    folder: default $RESEARCH_RUNS or runs
    where (CONDITION): such as network=cnn 'learning_rate>=1e-3' 'test/accuracy>0.9'
    sort (NAME): a metric, a knob, step, ...: best first; --sort=-NAME: last
    status: finished, running, preempted, failed, damaged, ...
    """
    from research.report.runs import format_runs, runs

    print(format_runs(runs(folder or os.environ.get("RESEARCH_RUNS", "runs"), where=where, sort=sort, status=status)))
