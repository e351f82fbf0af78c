"""Pages about a data set before anything is trained: an exploration, and a data set card.

    explore     page (explore) and sections: the page; explored: its content; draw: its drawings
    statistics  columns (summaries, distributions, the map of missing values), association, views (PCA, t-SNE)
    advice      findings (worth a look), advice (a preparation as lines of Python)
    card        card: origin, licence, consent, columns, splits, known faults; croissant: the same as JSON-LD
    source      source: a file, query, frame or named data set, as a Table

Statistics are functions of a Table, or of arrays, and know nothing of pages. For a new section of the page, copy
`outliers` in `sections.py`; for a new finding, copy one in `findings.py`.
"""

from research.explore.card import card
from research.explore.page import explore

__all__ = ["card", "explore"]
