"""Apply the rules of `during` to a live run, to warn while it can still be stopped."""

from research import events
from research.diagnose.during import OF_INTERVALS, OF_LAYERS, recompilation
from research.diagnose.finding import format_findings
from research.diagnose.history import History, follow, recorded
from research.runs.reader import read_run
from research.system.resources import compilations
from research.tree import differences


def diagnosis(tell, *, folder, batch_at=None):
    """Return a subscriber to `research.events` that sends a `Message` to `tell` when a rule first finds something.

    Each rule reports at most once per process. The subscriber builds the History of the run in `folder`; after a
    restart it begins with the earlier records. `batch_at(step)` returns the part of a batch that this process reads.
    If it is passed, a recompilation is explained by the batch whose shapes or types changed.
    """
    history, reported = History({}, {}, {}, None), set()
    compile_seconds, close = compilations()
    first = True  # the first interval of a process compiles, so its timing is left out

    def listen(event):
        nonlocal history, first
        match event:
            case events.Started():
                history = recorded(read_run(folder))._replace(total=event.total, trouble="")
                first = True
            case events.Interval() | events.Evaluated():
                compiling = compile_seconds() if isinstance(event, events.Interval) else 0.0
                follow(history, event, compiling=compiling, timed=not first)
                first = first and not isinstance(event, events.Interval)
                for rule in OF_INTERVALS if isinstance(event, events.Interval) else OF_LAYERS:
                    finding = None if rule in reported else rule(history)
                    if finding:
                        reported.add(rule)
                        if rule is recompilation and batch_at:
                            cause = explained(batch_at, finding.evidence["step"])
                            finding = finding._replace(text=f"{finding.text} {cause}")
                        tell(events.Message(event.step, format_findings([finding])))
            case events.Ended():
                close()

    return listen


def explained(batch_at, steps) -> str:
    """Describe the change of shapes or types among the batches of the last interval; intervals end at `steps`."""
    start, end = (int(step) for step in steps[-2:])
    # From the batch before the interval to the one that was read before the interval was reported.
    before = batch_at(max(0, start - 1))
    for step in range(start, end + 1):
        now = batch_at(step)
        if changed := differences(before, now):
            return f"At step {step} the batch changed: {changed}."
        before = now
    return "The shapes and types of its batches did not change, so something else was compiled."
