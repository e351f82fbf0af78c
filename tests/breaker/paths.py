"""Legal characters in the path of a run: every verb gives the same result, or training refuses before it begins."""

import shutil
import string

from tests.breaker.bench import VICTIM, lines, same, train_words, verb
from tests.breaker.shown import difference, expected, shown

CHARACTERS = sorted(set(string.printable) - set("/\r\x0b\x0c")) + list("äß数😀\u202e\u00a0\ud800")
PATTERNS = "*?[\\"  # the storage of arrays reads these as patterns


def attempt(bench, rng, *, characters=None) -> str:
    """Run every verb below a folder with an odd character in its name, or with given ones."""
    characters = characters or rng.choice(CHARACTERS)
    where = f"a{characters}b" if rng.random() < 0.5 else f"{characters}b"
    parent = bench.scratch / where
    try:
        parent.mkdir()
    except (OSError, UnicodeError):
        return "no legal name"
    mine = shutil.copy(VICTIM, parent)
    if set(characters) & set(PATTERNS):
        code, text = verb("train", mine, "--run-dir", parent / "run", "--no-report")
        assert code == 2 and "reads as a pattern" in text and not (parent / "run" / "run.json").exists(), text
        return "refused before it began"
    undamaged = expected(bench, bench.finished)
    run = shutil.copytree(bench.finished, parent / "run")
    for words, before in undamaged.items():
        if words[0] == "report" and rng.random() < 0.7:  # drawing takes seconds
            continue
        now = shown(words, run, bench.finished)
        assert now == before, f"{words[0]} below {where!r}: {difference(now, before)}"
    code, text = verb("evaluate", f"{run}@best")
    assert code == 0, text
    midway = shutil.copytree(bench.midway, parent / "midway")
    code, text = verb(*train_words(midway))
    assert code == 0 and "Resuming" in text, text
    same(midway, bench.finished)
    code, text = verb("train", mine, "--run-dir", parent / "more", "--no-report", "--from", f"{midway}@newest",
                      "--steps", "26")  # fmt: skip
    assert code == 0 and lines(parent / "more") > 0, text
    return "the same results"
