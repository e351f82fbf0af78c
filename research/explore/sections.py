"""Sections of the exploration page: missing values, correlations, outliers, duplicates, leaks and views."""

import numpy as np

from research.explore import draw
from research.explore.explored import Association, Exploration
from research.html.markup import Html, element, format_number, percent, section, shortened, table

MOST_PAIRS, SHOWN_PAIRS = 12, 5
LONGEST = 120  # characters of a name in a heading or a table


def missing(found: Exploration) -> Html:
    """Return the map of missing values, and their fraction in each column."""
    absent, rows = found.missing, len(found.source.table)
    if not absent.names:
        return section("Missing values", element("p", "No value is missing."))
    words = f"{absent.complete:,} of {rows:,} rows are complete. The darker a strip, the more values are missing there."
    more = sum(one.missing > 0 for one in found.summaries.values()) - len(absent.names)
    words += f" {more:,} more columns with fewer missing values are not drawn." if more else ""
    shares = sorted(absent.names, key=lambda name: -found.summaries[name].missing)
    share = lambda name: found.summaries[name].missing / rows
    bars = [[short(n), f"{found.summaries[n].missing:,}", draw.share_bar(share(n), percent(share(n)))]
            for n in shares]  # fmt: skip
    counts = table(["column", "rows", "missing"], bars, numeric=("rows",))
    strips = draw.missing_rows(absent.names, absent.fractions, rows)
    return section("Missing values", remark(words), draw.grid([strips, counts]))


def correlations(found: Exploration) -> Html:
    """Return the matrices of associations, and the strongest pairs."""
    kinds = {"Pearson": found.pearson, "Spearman": found.spearman, "Cramér's V": found.cramers_v}
    plots, pairs = [], []
    for kind, matrix in kinds.items():
        if len(matrix.names) > 1:
            plots.append(
                draw.titled(kind, "", draw.heat_map(matrix.names, matrix.values, label=f"{kind} of the columns"))
            )
            pairs += _pairs(kind, matrix)
    if not plots:
        return section("Correlations", element("p", "Fewer than two columns can be compared."))
    pairs = sorted(pairs, key=lambda pair: -abs(pair[2]))[:MOST_PAIRS]
    rows = [[short(a), short(b), f"{value:.3f}", element("span", kind, class_="whole")] for a, b, value, kind in pairs]
    words = "Blue is positive, orange is negative. An empty cell is a column that is constant."
    strongest = table(["column", "and", "value", "measure"], rows, numeric=("value",))
    return section("Correlations", remark(words), draw.grid(plots), element("h3", "Strongest pairs"), strongest)


def _pairs(kind: str, matrix: Association) -> list[tuple]:
    if kind == "Spearman":  # it repeats most pairs of Pearson
        return []
    strength = np.triu(np.nan_to_num(matrix.values), 1)
    order = np.argsort(-np.abs(strength), axis=None, kind="stable")[:MOST_PAIRS]
    places = [divmod(int(at), len(matrix.names)) for at in order]
    return [(matrix.names[i], matrix.names[j], strength[i, j], kind) for i, j in places if strength[i, j]]


def outliers(found: Exploration) -> Html:
    """Return the number of outliers of each column of numbers."""
    rows = []
    for name, one in found.summaries.items():
        if one.numbers and one.kind != "date" and one.numbers.outliers:
            share = one.numbers.outliers / one.rows
            rows.append([short(name), f"{one.numbers.outliers:,}", draw.share_bar(share, percent(share)),
                         f"{one.numbers.far:,}", format_number(one.numbers.low), format_number(one.numbers.median),
                         format_number(one.numbers.high), format_number(one.numbers.skewness)])  # fmt: skip
    if not rows:
        return section(
            "Outliers", element("p", "No number is more than 1.5 interquartile ranges beyond the quartiles.")
        )
    words = "Values more than 1.5 interquartile ranges beyond the quartiles; far ones, more than 3 (Tukey 1977)."
    numeric = ("outliers", "far", "lowest", "median", "highest", "skewness")
    head = ["column", "outliers", "fraction", "far", "lowest", "median", "highest", "skewness"]
    return section("Outliers", remark(words), table(head, rows[: draw.MOST_LISTED], numeric=numeric))


def duplicates(found: Exploration) -> Html:
    """Return the numbers of equal and of nearly equal rows, and some of them."""
    repeats, near, searched = found.duplicates
    words = [f"{len(repeats.rows):,} rows equal an earlier row in all columns except identifiers."]
    words += [f"Coincidences explain about {repeats.by_chance:,.0f} of {repeats.pairs:,} pairs."] * (repeats.pairs > 0)
    words += [f"Among {searched:,} other rows, {len(near):,} pairs are near copies."] * (searched > 0)
    pairs = [*zip(repeats.rows, repeats.originals, ["equal"] * len(repeats.rows), strict=True)][:SHOWN_PAIRS]
    pairs += [(b, a, "near copy") for a, b in near[:SHOWN_PAIRS]]
    rows = [[f"{row:,}", f"{other:,}", kind] for row, other, kind in pairs]
    shown = table(["row", "copy of row", "kind"], rows, numeric=("row", "copy of row")) if rows else ""
    return section("Duplicates", element("p", " ".join(words)), shown)


def leaks(found: Exploration) -> Html:
    """Return the columns that predict the target nearly alone; "" without a target."""
    if found.source.table.target is None:
        return Html()
    if not found.leaks:
        return section("Leaks", element("p", "No column predicts the target nearly alone."))
    words = ("Score: the fraction of the error of a constant prediction that the column alone avoids, cross-validated. "
             "The origin is its values, which of them are missing, or the order of an identifier.")  # fmt: skip
    rows = [[short(one.column), draw.share_bar(one.score, f"{one.score:.3f}"), format_number(one.area), one.origin,
             "yes" if one.certain else "no"] for one in found.leaks]  # fmt: skip
    head = ["column", "score", "ROC area", "origin", "without exception"]
    return section("Leaks", remark(words), table(head, rows, numeric=("ROC area",)))


def views(found: Exploration) -> Html:
    """Return the two views of a sample of the rows."""
    seen = found.views
    if seen.reason:
        return section("Views", remark(f"No view: {seen.reason}"))
    group = found.groups.of_row[seen.rows]
    axes = [f"component {i + 1}, {percent(share)} of the variance" for i, share in enumerate(seen.explained)]
    pca = draw.scatter(seen.pca, group, names=tuple(axes), label="principal components")
    tsne = draw.scatter(seen.tsne, group, names=("", ""), label="t-SNE")
    words = (f"{len(seen.rows):,} rows by {seen.features:,} features of the preparation, without the target. Principal "
             f"components of {seen.fitted:,} rows. Distances between clusters of t-SNE have no meaning.")  # fmt: skip
    plots = [draw.titled("Principal components", "", pca), draw.titled("t-SNE", "", tsne)]
    return section("Views", remark(words), draw.legend(found.groups), draw.grid(plots))


def short(name: str) -> str:
    """Shorten a name to LONGEST characters."""
    return shortened(name, LONGEST)


def remark(words: str) -> Html:
    """Return a remark; "" without words."""
    return element("p", words, class_="remark") if words else Html()
