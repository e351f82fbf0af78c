"""Apply every rule to a recorded run."""

from research.diagnose import after, during
from research.diagnose.finding import Finding
from research.diagnose.history import recorded
from research.runs.reader import Run, read_run


def examine(folder, *others) -> list[Finding]:
    """Return the findings of the rules in `during` and `after` for a run folder, problems first.

    `others` are folders of the same experiment and knobs with other seeds: the result then includes whether the seeds
    agree. A run that is still going is examined up to its last record, by the rules in `during` only.

    Raises UserError if a folder is not a run folder.
    """
    return examined(read_run(folder), *map(read_run, others))


def examined(run: Run, *others: Run) -> list[Finding]:
    """Like `examine`, for runs that are already in memory."""
    history = recorded(run)
    findings = [rule(history) for rule in during.RULES]
    if run.status.get("status") != "running":
        findings += [rule(history, run.evaluations) for rule in after.RULES]
    findings.append(after.unstable_seeds([run, *others]))
    return sorted(filter(None, findings), key=lambda finding: not finding.problem)
