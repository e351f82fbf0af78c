"""The texts of an evaluation that are worst: the edits between reference and hypothesis, and wrong tags, in colour.

Colour is never the only sign: edits are also struck through or underlined, and tags are written beside the words.
"""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from research.html import marks
from research.html.markup import Html, details, element, join, shortened, table, text
from research.metrics.edits import align

MOST = 10  # texts that are shown
LONGEST = 1500  # characters of a text that are aligned
LEGEND = join(
    [
        element("del", "in the reference only"), " ", element("ins", "in the hypothesis only"),
        "; side by side, one replaces the other.",
    ]
)  # fmt: skip


def is_texts(arrays: Mapping[str, np.ndarray]) -> bool:
    """Return whether an evaluation has the array "texts" [N, 3] of `metrics.texts.text_scores`."""
    found = arrays.get("texts")
    return found is not None and found.ndim == 2 and found.shape[1] == 3 and found.dtype.kind == "U" and len(found) > 0


def worst_texts(texts: np.ndarray) -> list[Html]:
    """Render the texts [N, 3] (source, reference, hypothesis) with the highest edit rates, each with its edits.

    The edits are of words; of characters if hardly any reference has white space.
    """
    spaced = bool(np.mean([" " in reference.strip() for _, reference, _ in texts]) > 0.1)
    split = (lambda words: words.split()) if spaced else list
    cut = [[split(shortened(side, LONGEST)) for side in row[1:]] for row in texts]
    edits = [align(hypothesis, reference) for reference, hypothesis in cut]
    wrong = [sum(edit.kind != "equal" for edit in steps) for steps in edits]
    rates = np.array(wrong) / [max(len(reference), 1) for reference, _ in cut]
    order = np.argsort(-rates, kind="stable")
    unit = "words" if spaced else "characters"
    right = sum(count == 0 for count in wrong)
    intro = f"{right} of {len(texts)} texts equal their reference. The highest rates of edits per {unit[:-1]} first: "
    cards = [
        _card(texts[i], edits[i], f"edits: {wrong[i]} · {unit}: {len(cut[i][0])}", " " * spaced) for i in order[:MOST]
    ]
    return [element("p", intro, element("span", LEGEND, class_="edits")), element("div", *cards, class_="quotes")]


def _card(row, edits, caption, gap):
    source = [element("figcaption", "source: ", shortened(str(row[0]), LONGEST))] if row[0] else []
    sides = {"reference": row[1], "hypothesis": row[2]}
    plain = [element("p", element("b", f"{name}: "), shortened(str(side), LONGEST)) for name, side in sides.items()]
    compared = element("blockquote", _edited(edits, gap), class_="edits")
    return element("figure", *source, compared, element("figcaption", caption), details("both texts", *plain))


def _edited(edits, gap) -> Html:
    """Return the text with its edits; neighbouring edits of one kind are one element."""
    parts, i = [], 0
    while i < len(edits):
        last, same = i, edits[i].kind == "equal"
        while last < len(edits) and (edits[last].kind == "equal") == same:
            last += 1
        before, after = ([side for edit in edits[i:last] if (side := edit[k]) is not None] for k in (1, 2))
        if same:
            parts.append(text(gap.join(before)))
        else:
            sides = (("del", before), ("ins", after))
            parts.append(join([element(name, gap.join(side)) for name, side in sides if side]))
        i = last
    return Html(gap.join(parts))


def is_tagged(arrays: Mapping[str, np.ndarray]) -> bool:
    """Return whether an evaluation has the array "tagged" [N, T, 3] of `metrics.tagging.tagged_texts`."""
    found = arrays.get("tagged")
    return found is not None and found.ndim == 3 and found.shape[2] == 3 and found.dtype.kind == "U" and len(found) > 0


def worst_tagged(tagged: np.ndarray) -> list[Html]:
    """Render the first sentences of [N, T, 3] (word, true tag, predicted tag), "" for padding, and a legend.

    The most frequent tags have a colour each. Below a word is its true tag; a wrong one is framed, with "✗" and the
    predicted tag.
    """
    shown = [[word for word in sentence.tolist() if word[0]] for sentence in tagged[:MOST]]
    counts = Counter(tag for sentence in shown for _, *tags in sentence for tag in dict.fromkeys(tags) if tag != "O")
    colours = dict(zip((tag for tag, _ in counts.most_common(len(marks.COLOURS))), marks.COLOURS, strict=False))
    style = lambda tag: {"style": f"border-color: {colours[tag]}"} if tag in colours else {}
    keys = [element("span", element("i", **style(tag)), tag) for tag in colours]
    keys += [element("span", "other tags have no colour")] * (len(counts) > len(colours))
    keys.append(
        element("span", element("span", element("b", "word"), element("small", "true ✗ predicted"), class_="tag wrong"))
    )

    def word(found):
        label, true, predicted = found
        wrong = true != predicted
        tags = f"{true} ✗ {predicted}" if wrong else "" if true == "O" else true
        return element(
            "span", element("b", label, **style(true)), element("small", tags), class_="tag" + " wrong" * wrong
        )

    lines = [element("p", *[word(found) for found in sentence], class_="tagged") for sentence in shown]
    intro = element("p", "The sentences with the most wrong tags first.")
    return [intro, element("div", *keys, class_="legend"), *lines]


def is_answers(arrays: Mapping[str, np.ndarray]) -> bool:
    """Return whether an evaluation has the array "answers" [N, 4] of `metrics.retrieval.answers_with_sources`."""
    found = arrays.get("answers")
    return found is not None and found.ndim == 2 and found.shape[1] == 4 and found.dtype.kind == "U" and len(found) > 0


def worst_answers(answers: np.ndarray) -> list[Html]:
    """Render the answers [N, 4] (question, answer, source, rank of the right text) as a table."""
    cut = [[shortened(cell, LONGEST) for cell in row] for row in answers.tolist()]
    intro = element("p", "The questions whose right text has the worst rank first, with the answer that was found.")
    return [intro, table(["question", "answer found", "source", "rank"], cut, numeric=("rank",))]
