"""The page of a label review: proposals with their records, beside the rules of an annotation guide."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from research.data.labels.guide import Guide
from research.data.labels.proposals import Proposal
from research.diagnose.findings_page import with_code
from research.html.document import document
from research.html.markup import Html, element, format_number, inline_image, join, percent, section, shortened, table
from research.report.gallery import data_uri, pixels, record_text

MOST_COLUMNS, MOST_PAIRS, LONGEST = 12, 12, 40


class Review(NamedTuple):
    """The result of a review.

    proposals: the most suspicious first
    suspects: the numbers of the records whose label is wrong by confident learning
    joint: [classes, classes], the estimated shares of given class (row) and true class (column)
    classes: their names
    count: the number of reviewed records
    origin: which networks made the predictions
    seen: the numbers of the reviewed records that their networks were trained on
    """

    proposals: Sequence[Proposal]
    suspects: set[int]
    joint: np.ndarray
    classes: Sequence[str]
    count: int
    origin: str
    seen: set[int]


def review_page(
    title: str, review: Review, *, most: int, records: Mapping[int, Mapping], commands: Sequence[str],
    guide: Guide | None = None, names: Sequence[str] = (), decode=None,
) -> str:  # fmt: skip
    """Return the page.

    most: the number of proposals to show
    records: by number: those of the shown proposals, and those that are examples of the guide
    commands: how to decide and apply, with code between backticks
    names: of the entries of a field "features"
    decode: converts tokens to text
    """
    shown, left_out = contents(records, names=names, decode=decode), len(review.proposals) - most
    cards = [_card(i, p, shown[p.record], review, guide) for i, p in enumerate(review.proposals[:most], 1)]
    share, rest = percent(len(review.suspects) / max(review.count, 1)), len(review.proposals) - len(review.suspects)
    found = f"{len(review.suspects)} of {review.count:,} labels are probably wrong ({share}), by confident learning. "
    found += f"{rest} more, marked as less sure, are not the most probable class." if rest > 0 else ""
    if review.seen:
        badge = element("span", "in sample", class_="badge failed")
        warning = (
            f"The network was trained on {len(review.seen):,} of the records, marked as seen. It may have memorized "
            "their labels: wrong ones are then missing here, and its confidence is too high."
        )
    else:
        badge = element("span", "out of sample", class_="badge finished")
        warning = "No network was trained on a record that it predicts here."
    more = f"{left_out} more proposals are in proposals.csv." if left_out > 0 else ""
    return document(title, join([
        element("header", element("h1", title), element("p", found)),
        element("p", badge, " ", review.origin, " ", warning),
        section("How to decide", element("ul", *[element("li", with_code(command)) for command in commands])),
        section("Proposals", element("p", "The most suspicious first.", class_="remark"),
                element("div", *cards, class_="cards"), element("p", more, class_="remark") if more else "")
        if cards else element("p", "No label is suspicious."),
        section("Classes that are confused", _pairs(review)),
        _guide(guide, shown) if guide else "",
    ]))  # fmt: skip


def contents(records: Mapping[int, Mapping], *, names: Sequence[str] = (), decode=None) -> dict[int, Html]:
    """Return each record, by number, as a picture, a text, or a table of its columns."""
    if records and all(np.ndim(record.get("image")) in (2, 3) for record in records.values()):
        images = zip(records, pixels([record["image"] for record in records.values()]), strict=True)
        return {number: inline_image(data_uri(image), alt=f"record {number}") for number, image in images}
    texts = {number: record_text(record, decode) for number, record in records.items()}
    return {
        number: element("blockquote", text) if text is not None else _columns(records[number], names)
        for number, text in texts.items()
    }


def _columns(record, names) -> Html:
    rows = []
    for field, value in record.items():
        if field in ("label", "mask"):
            continue
        entries = np.asarray(value).ravel() if not isinstance(value, str | bytes) else [value]
        keys = [field] if len(entries) == 1 else [f"{field}[{i}]" for i in range(len(entries))]
        keys = names if field == "features" and len(names) == len(entries) else keys
        rows += zip(keys, entries, strict=True)
    more = len(rows) - MOST_COLUMNS
    form = lambda value: (
        format_number(float(value)) if np.asarray(value).dtype.kind in "biuf" else shortened(str(value), LONGEST)
    )
    shown = table(["column", "value"], [[name, form(value)] for name, value in rows[:MOST_COLUMNS]], numeric=("value",))
    return shown + (element("p", f"and {more} more columns", class_="remark") if more > 0 else "")


def _card(rank, proposal, content, review, guide) -> Html:
    notes = [f"{rank}. record {proposal.record}"]
    notes += ["less sure"] * (proposal.record not in review.suspects) + ["seen"] * (proposal.record in review.seen)
    lines = [
        element("div", "given ", element("b", proposal.given)),
        element("div", "proposed ", element("b", proposal.proposed)),
        element("div", f"confidence {percent(proposal.confidence)}", class_="faint"),
        element("div", ", ".join(notes), class_="faint"),
    ]
    lines += [element("div", f"decision: {proposal.decision}")] if proposal.decision else []
    for name in (proposal.given, proposal.proposed) if guide else ():
        rules = " ".join(guide.classes[name].rules) if name in guide.classes else "no rule"
        lines.append(element("p", element("b", name), ": ", rules, class_="remark"))
    return element("figure", element("div", content), element("figcaption", *lines), class_="card")


def _pairs(review) -> Html:
    counts = np.array(review.joint) * review.count
    np.fill_diagonal(counts, 0)
    order = [divmod(int(i), len(counts)) for i in np.argsort(-counts, axis=None, kind="stable")[:MOST_PAIRS]]
    rows = [[review.classes[i], review.classes[j], f"{counts[i, j]:.0f}"] for i, j in order if counts[i, j] >= 0.5]
    if not rows:
        return Html()
    return table(["given", "probably", "estimated labels"], rows, numeric=("estimated labels",))


def _guide(guide, shown) -> Html:
    parts = [element("p", guide.text)] if guide.text else []
    for name, found in guide.classes.items():
        rules = element("ul", *[element("li", rule) for rule in found.rules])
        examples = [shown[e] if isinstance(e, int) else element("blockquote", e) for e in found.examples]
        parts += [element("h3", name), rules, element("div", *examples, class_="gallery") if examples else ""]
    return section("Annotation guide", *parts)
