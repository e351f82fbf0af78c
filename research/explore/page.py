"""The exploration page: a table's schema, distributions, missing values, relations and views on one page."""

import re
from pathlib import Path

import numpy as np

from research.diagnose.findings_page import finding
from research.explore import draw, sections
from research.explore.columns import Frequencies, described
from research.explore.explored import MOST_CODES, MOST_RELATED, MOST_TESTED, SAMPLE, SMALL, Exploration, explored
from research.explore.sections import remark, short
from research.explore.views import MOST_ROWS
from research.html.document import document, write_page
from research.html.markup import Html, element, join, percent, section, shortened, table

MOST_DRAWN, MOST_CLASSES = 24, 50


def explore(data, *, target: str | None = None, split: str | None = None, out=None, **reading) -> Exploration:
    """Write the exploration page of a table, and return its content with the path of the page.

    data: a path, URL or frame that `table` reads; a Table, or a subset of one; or the name of a data set
    target: the column to predict
    split: of a named data set; by default "train", or the first
    out: the page; by default explore-NAME.html in the current folder
    reading: other arguments of `table`, such as `query`, `schema` or `missing`

    Raises UserError for data that cannot be read as a table, for an unknown target or split, and if the page cannot be
    written.
    """
    found = explored(data, target=target, split=split, **reading)
    return found._replace(path=write_page(page(found), out or default_path("explore", found.source.name)))


def default_path(kind: str, name: str, suffix: str = ".html") -> Path:
    """Return KIND-NAME.html in the current folder; characters that are unusual in a file name become "-"."""
    stem = re.sub(r"[^\w.-]+", "-", name)[:100]
    return Path(f"{kind}-{stem}{suffix}")


def page(found: Exploration) -> str:
    """Return the page as HTML."""
    parts = [
        _headline(found),
        section(
            "Findings",
            element("div", *map(finding, found.findings), class_="columns")
            if found.findings
            else remark("Nothing stands out."),
        ),
        _preparation(found),
        section("Columns", draw.column_table(found.summaries, target=found.source.table.target)),
        _target(found),
        _distributions(found),
        sections.missing(found),
        sections.correlations(found),
        sections.outliers(found),
        sections.duplicates(found),
        sections.leaks(found),
        sections.views(found),
        _method(found),
    ]
    return document(f"Exploration of {found.source.name}", join(parts))


def _headline(found: Exploration) -> Html:
    source, kinds = found.source, [one.kind for one in found.summaries.values()]
    counted = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    split = f", split {source.split}" if source.split else ""
    target = f"; target {source.table.target}" if source.table.target else ""
    kinds = ", ".join(f"{count:,} {_plural(kind, count)}" for kind, count in counted.items())
    tiles = {
        "rows": f"{len(source.table):,}",
        "columns": f"{len(found.summaries):,}",
        "missing cells": percent(found.missing.cells),
        "complete rows": percent(found.missing.complete / len(source.table)),
        "classes": f"{sum(map(bool, found.classes.values())):,}" if found.classes else "",
        "findings": str(len(found.findings)),
    }
    boxes = [element("div", element("b", value), name, class_="tile") for name, value in tiles.items() if value]
    facts = element("p", source.facts.summary) if source.facts else ""
    head = element("h1", short(source.name))
    return join([element("header", head, facts, remark(f"{kinds}{split}{target}")),
                 element("div", *boxes, class_="tiles")])  # fmt: skip


def _plural(kind, count):
    words = {"category": "categories", "text": "texts"}
    return kind if count == 1 else words.get(kind, f"{kind}s")


def _preparation(found: Exploration) -> Html:
    if not found.code:
        return section("Preparation", element("p", "The table has too few rows or no feature: nothing to prepare."))
    words = "Lines to paste. Every number is fitted on the training rows, and the preparation stays with the run."
    return section("Preparation", remark(words), element("pre", found.code, class_="code"))


def _target(found: Exploration) -> Html:
    target = found.source.table.target
    if target is None:
        return Html()
    one, parts = found.summaries[target], []
    if found.classes:
        total, largest = sum(found.classes.values()), max(found.classes.values())
        order = sorted(found.classes, key=lambda name: -found.classes[name])
        rows = [
            [short(name), f"{found.classes[name]:,}",
             draw.share_bar(found.classes[name] / max(largest, 1), percent(found.classes[name] / max(total, 1)))]
            for name in order[:MOST_CLASSES]
        ]  # fmt: skip
        more = f"The {MOST_CLASSES} largest of {len(order):,} classes." if len(order) > MOST_CLASSES else ""
        parts = [table(["class", "rows", "fraction"], rows, numeric=("rows",)), remark(more)]
    elif one.distribution is not None:
        total = one.distribution._replace(counts=one.distribution.counts.sum(0, keepdims=True))
        parts = [draw.histogram(total, label=f"distribution of {target}", kind=one.kind)]
    left = element("div", element("h3", "Distribution"), *parts, class_="plot") if parts else ""
    bars = [[short(name), draw.share_bar(value, f"{value:.3f}")]
            for name, value in list(found.with_target.items())[:MOST_DRAWN] if np.isfinite(value)]  # fmt: skip
    words = ("Of each column alone, 0 to 1: the absolute Spearman correlation of two numbers, Cramér's V of two "
             "categories, the correlation ratio of a number and a category.")  # fmt: skip
    title = element("h3", "Association with each column")
    right = element("div", title, remark(words), table(["column", "association"], bars), class_="plot") if bars else ""
    word = "Balance of" if found.classes else "Target"
    return section(f"{word} {shortened(target, 40)}", element("div", left, right, class_="plots"))


def _distributions(found: Exploration) -> Html:
    target = found.source.table.target
    names = [n for n in [*found.with_target, *found.summaries] if n != target]
    drawable = lambda one: one.kind not in ("text", "identifier") and one.distinct > 1
    names = [name for name in dict.fromkeys(names) if drawable(found.summaries[name])]
    plots = []
    for name in names[:MOST_DRAWN]:
        one = found.summaries[name]
        if isinstance(one.distribution, Frequencies):
            plot, beyond = draw.bars(one.distribution, one.rows), 0
        else:
            plot = draw.histogram(one.distribution, label=f"distribution of {name}", kind=one.kind)
            beyond = one.distribution.beyond
        about = [one.kind, described(one) if one.numbers else f"{one.distinct:,} values"]
        about += [f"{percent(one.missing / one.rows)} missing"] if one.missing else []
        about += [f"{beyond:,} beyond the axis"] if beyond else []
        plots.append(draw.titled(short(name), " · ".join(about), plot))
    if not plots:
        return Html()
    words = []
    if len(found.groups.names) > 1:
        words += ["Curves are the fraction of each group in a bin; bars are rows, divided by group."]
    if len(names) > MOST_DRAWN:
        order = "most associated with the target" if target else "first in the table"
        words += [f"The {MOST_DRAWN} columns that are {order}, of {len(names):,}."]
    title = "Distributions by class" if found.classes else "Distributions"
    return section(title, remark(" ".join(words)),
                   draw.legend(found.groups), draw.grid(plots, "plots small"))  # fmt: skip


def _method(found: Exploration) -> Html:
    rows = len(found.source.table)
    notes = ["Schema, distributions, missing values, balance and outliers are of all rows."]
    if rows > SMALL:
        notes += [f"Pearson is of {min(rows, SAMPLE):,} random rows; Spearman, Cramér's V and the association "
                  f"with the target of {SMALL:,}."]  # fmt: skip
    if rows > MOST_ROWS:
        notes += [f"The views are of {MOST_ROWS:,} random rows."]
    if len(found.summaries) > MOST_TESTED:
        notes += [f"The {MOST_TESTED} columns most associated with the target are tested for leaks."]
    notes += [f"Matrices have the {MOST_RELATED} columns most associated with the target, or the first ones. "
              f"In Cramér's V, categories beyond the {MOST_CODES} most frequent are one."]  # fmt: skip
    if found.source.table.target and not found.classes:
        notes += ["The groups are thirds of the rows, by the target."]
    return section("Method", remark(" ".join(notes)))
