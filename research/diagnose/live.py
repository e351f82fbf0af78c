"""The rules of `during` on a run that goes on: a warning when it can still be stopped."""

from research import log
from research.diagnose.during import OF_INTERVALS, OF_LAYERS
from research.diagnose.finding import told
from research.diagnose.history import History, follow, recorded
from research.gauges import compilations
from research.report.folder import read_run


def diagnosis(tell, *, folder):
    """A subscriber to the events of `research.log` that keeps the History of the run in `folder`, and passes a `Noted`
    to `tell` the first time in this life of the run that a rule finds something.

    The history begins with what an earlier life has recorded.
    """
    history, known = History({}, {}, {}, None), set()
    taken, close = compilations()
    first = True  # of this life: its interval compiles

    def listen(event):
        nonlocal history, first
        match event:
            case log.Started():
                history = recorded(read_run(folder))._replace(total=event.total, trouble="")
                first = True
            case log.Interval() | log.Evaluated():
                compiling = taken() if isinstance(event, log.Interval) else 0.0
                follow(history, event, compiling=compiling, timed=not first)
                first = first and not isinstance(event, log.Interval)
                for rule in OF_INTERVALS if isinstance(event, log.Interval) else OF_LAYERS:
                    found = None if rule in known else rule(history)
                    if found:
                        known.add(rule)
                        tell(log.Noted(event.step, told([found])))
            case log.Ended():
                close()

    return listen
