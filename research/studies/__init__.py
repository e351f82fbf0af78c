"""Studies: several runs of one experiment, and statistics over their results.

    cross_validation   the mean and standard deviation over folds
    active_learning    choose the records to label, round by round
    reproduce          test claims over several seeds, and store the results in experiments/reproductions/

Both call `research.verbs.train`. They skip finished runs, thus an interrupted study resumes when it is rerun.
`research.search` searches over knobs. To add a study, copy `cross_validation.py`.
"""
