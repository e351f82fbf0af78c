"""Checks of experiments, data and runs, and estimates of the cost of a step.

A check is a function that returns Passed, Skipped or a Finding. A Finding states the problem, the numbers that show it
and the actions to try. `doctor` runs all checks.

    before a run   before (initial loss, gradients, overfitting one batch), rate (range test), cost (memory, FLOPs), hlo
                   (what a device executes), roofline (the least time of a step), advice (meshes, the largest batch)
                   transfer (loaded weights with few examples)
    data           data, copies (duplicates), suspects (wrong labels), tables
    splits         splits (check_splits), shifts (distributions), overlaps (copies, groups, times), leaks (columns),
                   duplicates (rows), parts
    during a run   during (rules for each interval), live, layers (statistics per layer)
    after a run    after, examine, findings_page

To add a check of an experiment, copy one from `before.py` and list it in `doctor.checked`. To add a rule for runs, copy
one from `during.py` or `after.py` and list it in the `RULES` of that file.
"""
