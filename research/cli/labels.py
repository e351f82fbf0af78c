"""Verbs for labels: find those that are probably wrong, and correct them."""


def labels_review(
    run: str, *, on: str | None = None, folds: int = 4, guide: str | None = None, shown: int = 100, trust: bool = False
):
    """Propose corrections of labels: a page, and a table to decide in.

    It runs the Python source that is stored in the run folder. The training records are predicted by new networks, each
    trained without the records that it predicts.

    run: a run folder, for its newest checkpoint; or RUN@best, or RUN@STEP
    on (NAME): train or an evaluation set (default train; for a run of `folds`, the last evaluation of all folds)
    folds: the number of networks to train for the training records; 0 uses the run's own, which has seen the labels
    guide (FILE): an annotation guide in TOML, shown beside the proposals
    shown: proposals on the page; the table has all
    trust: run the source of a folder that you did not make on this machine
    """
    from research.studies.label_review import review

    review(run, on=on, folds=folds, guide=guide, shown=shown, trust=trust)


def labels_apply(
    proposals: str, *, annotator: str | None = None, accept: int = 0, file: str | None = None, out: str | None = None,
    trust: bool = False,
):  # fmt: skip
    """Record the decided corrections of labels; the data stay as they are.

    proposals: the proposals.csv of `labels review`, with your decisions
    annotator (NAME): who decided (default: your user name)
    accept: accept so many undecided proposals, from the top, without inspection
    file (FILE): the record of corrections (default: corrections.jsonl beside the proposals)
    out (FOLDER): also write the complete corrected data set, for indexed(FOLDER)
    trust: with --out, run the source of a folder that you did not make on this machine
    """
    from research.studies.label_review import apply

    apply(proposals, annotator=annotator, accept=accept, file=file, out=out, trust=trust)
