"""Hostile names of classes, columns, evaluations, metrics and runs: refused at the start, or harmless everywhere."""

import html.parser
import json

from tests.breaker.bench import VICTIM, verb

HOSTILE = (
    "<b5x>", '" b5x="', "' b5x='", "</script><b5x>", "</title><b5x>", "<!--", "&amp;lt;", "\x1b[31mred", "\x07", "a\rb",
    "a\nb", "\u202eabc", "..", "../up", "a/b", "/etc", ".", "", " ", "-", "--help", "%s%n", "{0}", "$(true)", "`true`",
    ";", "a'b", 'a"b', "a,b", "(1,)", "[1]", "None", "nan", "loss", "step", "test", "layers", "CON", "x" * 300,
    "é" * 130, "e\u0301", "数", "😀", "\udcff", "a\tb", "\u2028", "@best", "a@3", "*", "?", "\\", "\\n",
    "=", "=1+1", "#", "~", "_", "__class__",
)  # fmt: skip
TARGETS = ("classes", "evaluation", "quantity", "column", "run")
CONTROL = {*map(chr, range(32)), "\x7f", *map(chr, range(128, 160))} - set("\n\t")


def attempt(bench, rng, *, name=None, target=None) -> str:
    """Give a hostile name to one thing, and run every verb."""
    name = rng.choice(HOSTILE) if name is None else name
    target = target or rng.choice(TARGETS)
    run, about = bench.scratch / "runs" / "run", f"{target} {name!r}"
    knobs = [f"--{target}={name}"]
    if target == "classes":
        knobs = [f"--classes={json.dumps([name, 'green', 'blue'])}"]
    elif target == "run":
        run, knobs = run.with_name(name.replace("/", "|") or "empty"), []
    train = ["train", VICTIM, "--run-dir", run, "--no-report", *knobs]
    code, text = _checked(about, *train)
    assert code in (0, 2), f"{about}: {text}"
    if code == 2:
        assert "error: " in text, f"{about}: {text}"
        # Only the first evaluation knows the names of metrics.
        late = target != "quantity" and "\nstep 0/" in f"\n{text}"
        assert not late, f"{about}: refused after training began: {text}"
        return f"{target}: refused"
    report = rng.random() < 0.5  # drawing takes seconds
    for words in (
        ("evaluate", run), ("runs", run.parent), ("compare", run, bench.finished), ("predict", run, "test"),
        ("predict", run, "test", "--out", run / "table.csv"), ("doctor", run), ("report", run), train,
    )[: None if report else -2]:  # fmt: skip
        code, text = _checked(about, *words)
        assert code == 0 or words[0] == "doctor", f"{about}: {words[0]}: {text}"
    for path in run.rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))
    for path in run.rglob("*.html"):
        _Page(about).feed(path.read_text(encoding="utf-8"))
    outside = [path for path in bench.scratch.rglob("*") if path.is_file() and run not in path.parents]
    assert not outside, f"{about}: files outside of the run: {outside}"
    return f"{target}: harmless"


def _checked(about, *words):
    result = verb(*words)
    found = CONTROL & set(result.text)
    assert not found, f"{about}: {words[0]} prints {sorted(found)}: {result.text[-500:]!r}"
    return result


class _Page(html.parser.HTMLParser):
    """Finds names that became markup."""

    def __init__(self, about):
        super().__init__()
        self.about = about

    def handle_starttag(self, tag, attrs):
        assert tag != "b5x" and "b5x" not in dict(attrs), f"{self.about}: markup in a page: {self.get_starttag_text()}"
