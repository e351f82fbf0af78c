"""The page of a label review: pictures, texts and columns, and which labels the network has seen."""

import numpy as np

from research.data.labels.guide import ClassGuide, Guide
from research.data.labels.proposals import Proposal
from research.report.label_review import Review, review_page
from tests.report.test_page import Page

PROPOSALS = [Proposal(7, "ant", "bee", 0.9, "accept"), Proposal(2, "bee", "ant", 0.6), Proposal(5, "ant", "bee", 0.5)]
REVIEW = Review(
    proposals=PROPOSALS, suspects={7}, joint=np.array([[0.5, 0.3], [0.0, 0.2]]), classes=("ant", "bee"), count=10,
    origin="Predicted by a test.", seen=set(),
)  # fmt: skip


def page(record, *, review=REVIEW, most=2, **options):
    records = {p.record: record(p.record) for p in PROPOSALS[:most]}
    text = review_page("Labels", review, most=most, records=records, commands=("Run `a <b>`",), **options)
    return text, Page(text)


def test_images_are_pictures_with_their_number():
    _, found = page(lambda number: {"image": np.full((4, 4, 1), number, np.uint8), "label": 0})
    images = [attributes for tag, attributes in found.tags if tag == "img"]
    assert [image["alt"] for image in images] == ["record 7", "record 2"]
    assert all(image["src"].startswith("data:image/png") for image in images)
    for words in (
        "1 of 10 labels are probably wrong (10.0 %)", "2 more, marked as less sure", "out of sample",
        "1 more proposals are in proposals.csv", "confidence 90.0 %", "decision: accept", "2, less sure",
    ):  # fmt: skip
        assert words in found.text, words
    assert "less sure" not in found.text.split("record 7")[1].split("given")[0]


def test_texts_are_quoted_and_tokens_decoded():
    text, _ = page(lambda number: {"text": f"<{number}>"})
    assert "<blockquote>&lt;7&gt;</blockquote>" in text and "<code>a &lt;b&gt;</code>" in text
    text, _ = page(lambda number: {"tokens": np.array([number])}, decode=lambda tokens: f"word {tokens[0]}")
    assert "<blockquote>word 7</blockquote>" in text


def test_columns_have_their_names_and_those_left_out_are_counted():
    date = np.datetime64("2030-01-02")
    record = lambda number: {"features": np.arange(15) + number, "city": "Rome", "label": 1, "date": date}
    _, found = page(record, names=[f"name {i}" for i in range(15)])
    assert "name 11" in found.text and "name 12" not in found.text and "and 5 more columns" in found.text
    _, found = page(lambda number: {"features": np.arange(3), "city": "Rome", "date": date})
    assert all(word in found.text for word in ("features[2]", "Rome", "2030-01-02"))


def test_records_that_the_network_has_seen_are_marked():
    _, found = page(lambda number: {"text": "a"}, review=REVIEW._replace(seen={2, 5}))
    assert "in sample" in found.text and "trained on 2 of the records" in found.text
    assert "record 2, less sure, seen" in found.text and "record 7, seen" not in found.text


def test_pairs_and_the_guide():
    guide = Guide("Look twice.", {"ant": ClassGuide(("Six legs.",), (7, "a text")), "bee": ClassGuide(("Wings.",), ())})
    text, found = page(lambda number: {"text": f"record text {number}"}, guide=guide)
    assert text.count("record text 7") == 2 and found.text.count("Six legs.") == 3
    assert "estimated labels" in found.text and "Look twice." in found.text


def test_without_proposals():
    review = REVIEW._replace(proposals=[], suspects=set(), joint=np.eye(2) / 2)
    text = review_page("Labels", review, most=5, records={}, commands=("a",))
    assert "No label is suspicious." in text and "Classes that are confused" not in text
