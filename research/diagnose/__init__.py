"""What is wrong with an experiment, its data or its run, and what a step costs.

A check is a function that gives Passed, Skipped or a Finding: what is wrong in plain words, by which figures, and what
to try. `doctor` runs them all.

    before a run   before (a Case's loss, gradients, one batch), rate (range test), cost (memory, FLOPs)
    data           data, copies (duplicates), suspects (labels), tables
    during a run   during (rules on intervals), live, layers (statistics of every layer)
    after a run    after, examine, findings_page

To add a check of an experiment, copy one of `before.py` and list it in `doctor.checked`; a rule on a run, one of
`during.py` or `after.py`.
"""
