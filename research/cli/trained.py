"""Verbs for one run: evaluation, prediction, report."""


def evaluate(run: str, *, on: str | None = None):
    """Evaluate a checkpoint of a run on its evaluation sets.

    run: a run folder, for its newest checkpoint; or RUN@best, or RUN@STEP
    on (NAME): one evaluation set (default: all)
    """
    from research import verbs

    verbs.evaluate(run, on=on)


def predict(run: str, data: str, *, out: str | None = None):
    """Write the predictions of a run for a data set to a file.

    run: a run folder, for its newest checkpoint; or RUN@best, or RUN@STEP
    data: an evaluation set of the run, or a path to records
    out (FILE): the output file, .jsonl or .csv (default RUN/predictions/DATA.jsonl)
    """
    from research import verbs

    verbs.predict(run, data, out=out)


def report(run: str):
    """Write the report of a run again.

    run: a run folder
    """
    from research import verbs

    print(verbs.report(run))
