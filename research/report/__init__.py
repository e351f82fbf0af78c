"""The pages and tables about runs: one run, several compared, many listed.

    one run     page (report.html): claims, curves, confusion, ranked, slices, gallery, layers, timeline, pace, record
    several     compare, compare_page with groups, rows, overlay
    many        runs; direction says which numbers are better when larger

A part of the page is a function of a `research.runs.reader.Run` (or of one Evaluation) that gives Html, and "" if there
is nothing to show. To add one, copy `slices.py` and call it in `page.py`.
"""

from research.report.claims import judge
from research.report.page import report

__all__ = ["judge", "report"]
