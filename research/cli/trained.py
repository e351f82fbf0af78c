"""Verbs for one run: evaluation, prediction, report."""


def evaluate(run: str, *, on: str | None = None, trust: bool = False):
    """Evaluate a checkpoint of a run on its evaluation sets.

    It runs the Python source that is stored in the run folder.

    run: a run folder, for its newest checkpoint; or RUN@best, or RUN@STEP
    on (NAME): one evaluation set (default: all)
    trust: run the source of a folder that you did not make on this machine
    """
    from research import verbs

    verbs.evaluate(run, on=on, trust=trust)


def predict(run: str, data: str, *, out: str | None = None, trust: bool = False):
    """Write a run's predictions for a data set to a file.

    It runs the Python source that is stored in the run folder.

    run: a run folder, for its newest checkpoint; or RUN@best, or RUN@STEP
    data: an evaluation set of the run, or a path to records
    out (FILE): the output file, .jsonl or .csv (default RUN/predictions/DATA.jsonl)
    trust: run the source of a folder that you did not make on this machine
    """
    from research import verbs

    verbs.predict(run, data, out=out, trust=trust)


def report(run: str, *, trust: bool = False):
    """Rewrite a run's report.

    For class names and the worst errors, it runs the Python source that is stored in the run folder. Without --trust,
    it does so only if you made the folder on this machine.

    run: a run folder
    trust: run the source of a folder that you did not make on this machine
    """
    from research import verbs

    print(verbs.report(run, trust=trust))
