"""BLEU and chrF of sacrebleu, ROUGE of rouge-score, error rates of jiwer, F1 of seqeval and of torchmetrics (SQuAD)."""

import numpy as np

from tests.metrics.sentences import pairs, tagged

PACKAGES = (
    "sacrebleu==2.6.0", "rouge-score==0.1.2", "nltk==3.10.4", "jiwer==4.0.0", "seqeval==1.2.2", "torchmetrics==1.9.0",
)  # fmt: skip


def values():
    hypotheses, references = zip(*pairs(), strict=True)
    stored = _bleu(hypotheses, references) | _rouge(hypotheses, references) | _errors(hypotheses, references)
    return stored | _entities() | _answers(hypotheses, references)


def _bleu(hypotheses, references):
    from sacrebleu.metrics import BLEU, CHRF

    streams = [list(stream) for stream in zip(*[(one * 2)[:2] for one in references], strict=True)]
    each = list(zip(hypotheses, references, strict=True))
    stored = {"bleu": BLEU().corpus_score(hypotheses, streams).score}
    for smoothing in ("exp", "floor", "add-k", "none"):
        whole = BLEU(smooth_method=smoothing)
        stored[f"bleu_{smoothing}"] = whole.corpus_score(hypotheses[-6:], [s[-6:] for s in streams]).score
        one = BLEU(smooth_method=smoothing, effective_order=True)
        stored[f"sentence_{smoothing}"] = [one.sentence_score(*both).score for both in each]
    for words in (0, 2):
        metric = CHRF(word_order=words)
        stored[f"chrf_{words}"] = metric.corpus_score(hypotheses, streams).score
        stored[f"chrf_{words}_each"] = [metric.sentence_score(*both).score for both in each]
    return stored


def _rouge(hypotheses, references):
    import re
    from pydoc_data.topics import topics

    from nltk.stem.porter import PorterStemmer
    from rouge_score.rouge_scorer import RougeScorer

    stored, names = {}, ["rouge1", "rouge2", "rougeL"]
    words = sorted(set(re.findall("[a-z]+", " ".join(topics.values()).lower())))
    stems = map(PorterStemmer().stem, words)
    # Texts are stored as bytes, because the arrays are compared as numbers.
    stored["stems"] = np.frombuffer("\n".join(f"{a} {b}" for a, b in zip(words, stems, strict=True)).encode(), np.uint8)
    for stemmed in (False, True):
        scorer = RougeScorer(names, use_stemmer=stemmed)
        scores = [scorer.score_multi(texts, one) for one, texts in zip(hypotheses, references, strict=True)]
        stored[f"rouge_{int(stemmed)}"] = [[score[name].fmeasure for name in names] for score in scores]
    return stored


def _errors(hypotheses, references):
    import jiwer

    stored = {}
    # jiwer's words are separated by the space alone; the tab and the end of a line are made one.
    spaced = lambda text: " ".join(text.split())
    for name, rate, prepare in (("wer", jiwer.wer, spaced), ("cer", jiwer.cer, str)):
        first, texts = [prepare(texts[0]) for texts in references], [prepare(text) for text in hypotheses]
        stored[name] = rate(first, texts)
        stored[f"{name}_each"] = [rate(*both) for both in zip(first, texts, strict=True)]
    return stored


def _entities():
    from seqeval.metrics import f1_score
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support as lenient
    from seqeval.metrics.v1 import precision_recall_fscore_support as strict
    from seqeval.scheme import IOB2, IOBES

    stored = {}
    for name, tags, options in (
        ("BIO", "BIO", {"mode": "strict", "scheme": IOB2}),
        ("IOBES", "IOBES", {"mode": "strict", "scheme": IOBES}),
        ("lenient_BIO", "BIO", {}),
        ("lenient_IOBES", "IOBES", {}),
    ):
        predictions, true = tagged(tags)
        scores = (
            strict(true, predictions, average=None, scheme=options["scheme"])
            if options
            else lenient(true, predictions, average=None)
        )
        stored[f"entities_{name}"] = np.stack(scores, -1)
        stored[f"f1_{name}"] = f1_score(true, predictions, **options)
    return stored


def _answers(hypotheses, references):
    from torchmetrics.functional.text import squad

    scores = [
        squad(
            {"prediction_text": hypothesis, "id": "0"},
            {"answers": {"answer_start": [0] * len(texts), "text": list(texts)}, "id": "0"},
        )
        for hypothesis, texts in zip(hypotheses, references, strict=True)
    ]
    return {"answers": [[float(score[name]) / 100 for name in ("exact_match", "f1")] for score in scores]}
