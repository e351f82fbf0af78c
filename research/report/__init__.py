"""Reports on runs: a page for one run, a comparison of several runs, and a listing of many.

    one run     page (report.html): curves, confusion, multi_label, ranked, slices, gallery, texts, layers, timeline,
                pace, record
    labels      label_review: the page of proposed corrections
    several     compare (statistics), compare_page (text and HTML), groups, rows, overlay
    many        runs: list, filter and sort
    words       word_map: neighbours of words in a plane
    shared      direction: the main metric, and whether higher or lower is better

Each part of a page is a function of a `research.runs.reader.Run` (or of one Evaluation). It returns Html, and "" if
there is nothing to show. To add a part, copy `slices.py` and call it in `page.py`.
"""

from research.report.page import report

__all__ = ["report"]
