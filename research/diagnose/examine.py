"""All that a recorded run shows to be wrong with it."""

from research.diagnose import after, during
from research.diagnose.finding import Finding
from research.diagnose.history import recorded
from research.runs.reader import Run, read_run


def examine(folder, *others) -> list[Finding]:
    """What the rules of `during` and `after` find in a run folder, problems first; with `others`, runs of the same
    experiment and knobs by other seeds, also whether the seeds agree. A run that has not ended is examined so far.

    Raises UserError where a folder is not that of a run.
    """
    return examined(read_run(folder), *map(read_run, others))


def examined(run: Run, *others: Run) -> list[Finding]:
    """The same of runs that are read already."""
    history = recorded(run)
    found = [rule(history) for rule in during.RULES]
    if run.status.get("status") != "running":
        found += [rule(history, run.evaluations) for rule in after.RULES]
    found.append(after.unstable_seeds([run, *others]))
    return sorted(filter(None, found), key=lambda finding: not finding.problem)
