import numpy as np
import pytest

from research.core import merge
from research.errors import UserError
from research.metrics.answers import answer_scores
from research.metrics.bleu import SMOOTHINGS, bleu, sentence_bleu
from research.metrics.chrf import chrf
from research.metrics.edits import align, character_error_rate, error_rate, mismatch_rate, word_error_rate
from research.metrics.rouge import rouge
from research.metrics.stem import stem_porter
from research.metrics.texts import text_scores
from tests.metrics.sentences import pairs
from tests.truth import load

TRUTH = load("text_metrics")
HYPOTHESES, REFERENCES = (list(side) for side in zip(*pairs(), strict=True))
FIRST = [texts[0] for texts in REFERENCES]


def each(score):
    return [score(*both) for both in zip(HYPOTHESES, REFERENCES, strict=True)]


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_bleu_is_that_of_sacrebleu(smoothing):
    found = each(lambda one, texts: sentence_bleu(one, texts, smoothing=smoothing))
    np.testing.assert_allclose(found, TRUTH[f"sentence_{smoothing}"], rtol=1e-9, atol=1e-9)
    assert bleu(HYPOTHESES, REFERENCES).value() == pytest.approx(float(TRUTH["bleu"]), rel=1e-9)
    state = bleu(HYPOTHESES[-6:], REFERENCES[-6:])
    assert state.score(smoothing=smoothing) == pytest.approx(float(TRUTH[f"bleu_{smoothing}"]), rel=1e-9)


@pytest.mark.parametrize("words", [0, 2])
def test_chrf_is_that_of_sacrebleu(words):
    found = each(lambda one, texts: chrf([one], [texts], words=words).value())
    np.testing.assert_allclose(found, TRUTH[f"chrf_{words}_each"], rtol=1e-9, atol=1e-9)
    state = chrf(HYPOTHESES, REFERENCES, words=words)
    assert state.value() == pytest.approx(float(TRUTH[f"chrf_{words}"]), rel=1e-9)


@pytest.mark.parametrize("stem", [None, stem_porter])
def test_rouge_is_that_of_rouge_score(stem):
    found = each(lambda one, texts: [score.value() for score in rouge([one], [texts], stem=stem).values()])
    np.testing.assert_allclose(found, TRUTH[f"rouge_{int(stem is not None)}"], rtol=1e-9)


def test_stems_are_those_of_nltk():
    words = [line.split() for line in TRUTH["stems"].tobytes().decode().split("\n")]
    assert len(words) > 3000 and [pair for pair in words if stem_porter(pair[0]) != pair[1]] == []


def test_error_rates_are_those_of_jiwer():
    for rate, name in ((word_error_rate, "wer"), (character_error_rate, "cer")):
        found = [rate([one], [text]).value() for one, text in zip(HYPOTHESES, FIRST, strict=True)]
        np.testing.assert_allclose(found, TRUTH[f"{name}_each"], rtol=1e-9)
        assert rate(HYPOTHESES, FIRST).value() == pytest.approx(float(TRUTH[name]), rel=1e-9)


def test_an_alignment_spells_both_texts_and_has_as_many_edits_as_the_distance():
    edits = align("kitten", "sitting")
    assert "".join(e.reference for e in edits if e.kind != "insert") == "sitting"
    assert "".join(e.hypothesis for e in edits if e.kind != "delete") == "kitten"
    assert [e.kind for e in edits] == [
        "substitute", "equal", "equal", "equal", "substitute", "equal", "delete",
    ]  # fmt: skip
    assert align("", "") == [] and [e.kind for e in align([1], [])] == ["insert"]
    # sizes 1 and 2: the edits of 2, and 3 items of reference
    assert error_rate([[1], [1, 2]], [[2, 1], [1]]).value() == pytest.approx(2 / 3)
    assert error_rate([[]], [[]]).value() == 0 and error_rate([[1]], [[]]).value() == 1


def test_the_reference_with_the_fewest_edits_counts():
    several = [["x y", "a b x", "c c c"], "a", ["d", "a c"]]
    assert word_error_rate(["a b c", "b", "a b c"], several) == (2, 0, 1, 3 + 1 + 2)
    assert character_error_rate(["abc"], [["xyz", "abcd"]]).value() == 1 / 4
    assert mismatch_rate(["a b x", "b", "a"], several).value() == pytest.approx(2 / 3)


def test_answers_are_scored_as_for_squad():
    found = each(lambda one, texts: [score.value() for score in answer_scores([one], [texts]).values()])
    np.testing.assert_allclose(found, TRUTH["answers"], rtol=1e-6)


def test_states_merge_over_batches():
    parts = [slice(0, 7), slice(7, 8), slice(8, None)]
    for score, references in (
        (bleu, REFERENCES), (chrf, REFERENCES), (word_error_rate, FIRST),
        (lambda h, r: rouge(h, r)["rougeL"], REFERENCES), (lambda h, r: answer_scores(h, r)["f1"], REFERENCES),
    ):  # fmt: skip
        one, *others = [score(HYPOTHESES[part], references[part]) for part in parts]
        for other in others:
            one = merge(one, other)
        assert float(one.value()) == pytest.approx(float(score(HYPOTHESES, references).value()), rel=1e-6)


def test_scores_of_texts_finish_an_evaluation():
    rows = {"hypothesis": np.array([[72, 105], [72, 111]]), "reference": np.array([[72, 105], [72, 105]])}
    decode = lambda ids: bytes(ids.tolist()).decode()
    finish = text_scores(decode, cer=character_error_rate, rouge=rouge)
    found = finish({"rows": rows})
    assert found["cer"] == 0.25 and found["rouge_rouge1"] == 0.5
    assert found["texts"].tolist() == [["", "Hi", "Hi"], ["", "Hi", "Ho"]]
    assert finish({"rows": {**rows, "source": rows["reference"]}})["texts"][1].tolist() == ["Hi", "Hi", "Ho"]
    shouted = text_scores(decode, lambda ids: decode(ids).upper())({"rows": {**rows, "source": rows["reference"]}})
    assert shouted["texts"][1].tolist() == ["HI", "Hi", "Ho"]
    several = np.array([[[72, 111], [72, 105], [0, 0]], [[72, 105], [0, 0], [0, 0]]])
    found = text_scores(decode, wer=word_error_rate, wrong=mismatch_rate)({"rows": {**rows, "reference": several}})
    assert found["wer"] == 0.5 and found["wrong"] == 0.5 and found["texts"][:, 1].tolist() == ["Hi", "Hi"]
    with pytest.raises(UserError, match="unknown row of the evaluation 'reference'"):
        finish({"rows": {"hypothesis": rows["hypothesis"]}})


def test_wrong_arguments_are_refused():
    with pytest.raises(UserError, match="1 hypotheses and 2 references"):
        bleu(["a"], ["a", "b"])
    with pytest.raises(UserError, match="hypothesis 1 has no reference"):
        chrf(["a", "b"], ["a", []])
    with pytest.raises(UserError, match="a single string was given"):
        word_error_rate("a b", ["a b"])
    with pytest.raises(UserError, match="unknown smoothing 'exponential'"):
        sentence_bleu("a", "a", smoothing="exponential")
