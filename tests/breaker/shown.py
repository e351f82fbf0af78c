"""What the verbs show for a run, in a form in which two runs can be compared."""

import functools
import re
import shutil

from tests.breaker.bench import train_words, verb

VERBS = (
    ("evaluate", "RUN"), ("runs", "RUN/.."), ("compare", "FINISHED", "RUN"), ("predict", "RUN", "test"),
    ("doctor", "RUN"), ("report", "RUN"),
)  # fmt: skip
# A verb that prints such a message may leave out what it could not read.
NOTICE = re.compile(
    r"damaged|cannot be read|is not a|is not JSON|ha(?:s|ve) changed|was changed|error:|no valid|skipped|other version|"
    r"not made by"
)
AGE = re.compile(r"\b\d+ (s|min|h|d)\b +")


TRAIN = ("train", "RUN")


def shown(words, run, finished) -> str:
    """Run a verb. Return what it prints, and its page or table, without what differs between two calls."""
    paths = {"RUN": run, "FINISHED": finished, "RUN/..": run.parent}
    code, text = verb(*(train_words(run) if words == TRAIN else (paths.get(word, word) for word in words)))
    assert code in (0, 2) or words[0] == "doctor", text
    assert code != 2 or "error: " in text, text
    page = {"report": run / "report" / "report.html", "predict": run / "predictions" / "test.jsonl"}.get(words[0])
    if page and code == 0:
        text += page.read_text()
    return re.sub(r"[ -]{2,}", "  ", AGE.sub("", text.replace(str(run), "RUN")))


def notices(text, *, before="") -> bool:
    """Check whether a text has a message about damage that the text from before the damage has not."""
    return any(NOTICE.search(line) for line in set(text.split("\n")) - set(before.split("\n")))


@functools.cache
def expected(bench, original) -> dict:
    """What the verbs show for `original` without damage: {words: text}."""
    run = shutil.copytree(original, bench.scratch / "run")
    result = {words: shown(words, run, bench.finished) for words in (*VERBS, TRAIN)}
    shutil.rmtree(run)
    return result


def difference(found, other) -> str:
    """The first place where two texts differ, or "" if they are equal."""
    if found == other:
        return ""
    pairs = enumerate(zip(found, other, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(found), len(other)))
    return f"{found[max(at - 20, 0) : at + 20]!r} for {other[max(at - 20, 0) : at + 20]!r}"
