"""The rules of `during` on a run that goes on: a warning when it can still be stopped."""

from research import events
from research.diagnose.during import OF_INTERVALS, OF_LAYERS, recompilation
from research.diagnose.finding import format_findings
from research.diagnose.history import History, follow, recorded
from research.runs.reader import read_run
from research.system.resources import compilations
from research.tree import differences


def diagnosis(tell, *, folder, batch_at=None):
    """A subscriber to `research.events` that keeps the History of the run in `folder`, and passes a `Message` to `tell`
    the first time in this life of the run that a rule finds something.

    The history begins with what an earlier life has recorded. With `batch_at`, which gives what this process reads
    of a batch, what compiles again is explained by the batches that it was given.
    """
    history, known = History({}, {}, {}, None), set()
    taken, close = compilations()
    first = True  # of this life: its interval compiles

    def listen(event):
        nonlocal history, first
        match event:
            case events.Started():
                history = recorded(read_run(folder))._replace(total=event.total, trouble="")
                first = True
            case events.Interval() | events.Evaluated():
                compiling = taken() if isinstance(event, events.Interval) else 0.0
                follow(history, event, compiling=compiling, timed=not first)
                first = first and not isinstance(event, events.Interval)
                for rule in OF_INTERVALS if isinstance(event, events.Interval) else OF_LAYERS:
                    found = None if rule in known else rule(history)
                    if found:
                        known.add(rule)
                        if rule is recompilation and batch_at:
                            found = found._replace(text=f"{found.text} {explained(batch_at, found.evidence['step'])}")
                        tell(events.Message(event.step, format_findings([found])))
            case events.Ended():
                close()

    return listen


def explained(batch_at, steps) -> str:
    """What changed between the batches of the last of these intervals, which ended at `steps`: shapes or types."""
    start, end = (int(step) for step in steps[-2:])
    # From the batch before it, to the one that was taken before the interval was told.
    before = batch_at(max(0, start - 1))
    for step in range(start, end + 1):
        now = batch_at(step)
        if changed := differences(before, now):
            return f"At step {step} the batch changed: {changed}."
        before = now
    return "Its batches kept their shapes and types: something else is compiled."
