import numpy as np

from research.data.text.tagged import fit_words, tagged_rows
from research.metrics.tagging import tagged_texts
from research.report.page import report
from research.report.texts import is_tagged, is_texts, worst_tagged, worst_texts
from tests.report.runs import bare, write_json

TEXTS = np.array([
    ["", "the cat sat", "the cat sat"],
    ["le chat <dort>", "the cat <sleeps> now", "the dog <sleeps>"],
    ["", "a b c d e f g h i j", "a b c d e f g h i k"],
])  # fmt: skip
TAGGED = np.array([
    [["Ada", "B-per", "O"], ["codes", "O", "O"], ["", "", ""]],
    [["in", "O", "O"], ["Rome", "B-loc", "B-loc"], ["&", "O", "B-loc"]],
])  # fmt: skip


def test_the_worst_texts_come_first_with_their_edits_in_words():
    intro, cards = worst_texts(TEXTS)
    assert intro.startswith("<p>1 of 3 texts equal their reference.")
    first, second, third = cards.split("<figure>")[1:]
    assert "source: le chat &lt;dort&gt;" in first and "edits: 2 · words: 4" in first
    assert (
        '<blockquote class="edits">the <del>cat</del><ins>dog</ins> &lt;sleeps&gt; <del>now</del></blockquote>' in first
    )
    assert "i <del>j</del><ins>k</ins>" in second and "edits: 0" in third


def test_texts_without_spaces_are_compared_by_character():
    _, cards = worst_texts(np.array([["", "名前はまだ無い", "名前はまだない"]]))
    assert "名前はまだ<del>無</del><ins>な</ins>い" in cards and "edits: 1 · characters: 7" in cards


def test_tags_have_a_legend_and_errors_have_a_sign():
    _, legend, first, second = worst_tagged(TAGGED)
    assert legend.count("<i style=") == 2 and "true ✗ predicted" in legend
    assert '<span class="tag wrong">' in first and "B-per ✗ O" in first and first.count('class="tag"') == 1
    assert "O ✗ B-loc" in second and "&amp;" in second and second.count("✗") == 1


def test_a_page_shows_both(tmp_path):
    bare(tmp_path)
    write_json(tmp_path / "evaluations/test.json", {"step": 20, "numbers": {"bleu": 0.5}, "texts": {}})
    np.savez(tmp_path / "evaluations/test.npz", **{"array/texts": TEXTS, "array/tagged": TAGGED})
    page = report(tmp_path).read_text()
    assert "Worst texts" in page and "Tagged sentences" in page and "cannot be drawn" not in page
    assert not is_texts({"texts": np.zeros((2, 3))}) and not is_texts({"texts": TEXTS[:, :2]}) and not is_texts({})
    assert not is_tagged({"tagged": TEXTS}) and is_tagged({"tagged": TAGGED})


def test_the_worst_tagged_sentences_are_kept():
    sentences, tags = [["a", "b"], ["c", "d", "e"], ["f"]], [["X", "X"], ["X", "Y", "X"], ["Y"]]
    names = ["X", "Y"]
    rows = tagged_rows(sentences, {"tags": tags}, vocabulary=fit_words(sentences), names={"tags": names}, length=4)
    true = rows.data.column("tags")
    predicted = np.where(true >= 0, 1, -1)  # all Y: sentence c d e has two errors, a b two, f none
    found = tagged_texts(rows, names=names, most=2)({"rows": {"tag": true, "predicted_tag": predicted}})["tagged"]
    assert found.shape == (2, 3, 3)
    words = [[word for word, *_ in sentence.tolist() if word] for sentence in found]
    assert sorted(words) == [["a", "b"], ["c", "d", "e"]]
    assert ["d", "Y", "Y"] in found.tolist()[words.index(["c", "d", "e"])]
