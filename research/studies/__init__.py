"""Studies: several runs of one experiment, and statistics over their results.

    cross_validation   the mean and standard deviation over folds
    active_learning    choose the records to label, round by round
    label_review       find labels that are probably wrong, and correct them; out_of_sample: the predictions for it
    reproduce          test claims over several seeds, and store the results in experiments/reproductions/

Most call `research.verbs.train`. They skip finished runs, thus an interrupted study resumes when it is rerun.
`research.search` searches over knobs. To add a study, copy `cross_validation.py`.
"""
