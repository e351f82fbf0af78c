"""Verbs of a run that has trained: its evaluations, its predictions, its report."""


def evaluate(run: str, *, on: str | None = None):
    """Evaluate a run's checkpoint on its evaluation sets.

    run: a run folder; RUN@best or RUN@STEP for one checkpoint
    on (NAME): one evaluation set (default: all)
    """
    from research import verbs

    verbs.evaluate(run, on=on)


def predict(run: str, data: str, *, out: str | None = None):
    """Write a run's predictions for a data set to a file.

    run: a run folder; RUN@best or RUN@STEP for one checkpoint
    data: an evaluation set of the run, or a path to records
    out (FILE): default RUN/predictions/DATA.jsonl
    """
    from research import verbs

    verbs.predict(run, data, out=out)


def report(run: str):
    """Draw the report of a run anew.

    run: a run folder
    """
    from research import verbs

    print(verbs.report(run))
