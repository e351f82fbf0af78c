"""The doctor: all checks of an experiment file before it runs, or of a run by what it left."""

import os
import sys
from pathlib import Path

import numpy as np

from research.diagnose import before, copies, data, rate, suspects
from research.diagnose.case import Case, make_case
from research.diagnose.finding import Finding, format_findings
from research.diagnose.findings_page import finding
from research.diagnose.outcome import Outcome, Passed, Skipped
from research.diagnose.tables import tables
from research.errors import UserError
from research.files import file_errors
from research.html.document import document
from research.html.markup import Html, element, join, section, table
from research.runs import folder as run_folder
from research.runs.experiment_file import load
from research.runs.opened import knob_values

DATA = {
    "duplicates": copies.duplicates,
    "labels": data.balance,
    "constant features": data.constant,
    "scale of the inputs": data.scale,
    "label among the features": suspects.giveaways,
    "suspect labels": suspects.suspect_labels,
}


def doctor(
    file, *, seed: int = 0, rate_test: bool = True, runs=None, folder=None, stream=None, **knobs
) -> list[Finding]:  # fmt: skip
    """What is wrong with an experiment file, or with a run: the findings, those that are problems first.

    For a file: the checks of its data, those of `research.diagnose.before` and, with `rate_test`, the learning-rate
    range test, each told on `stream` as it ends. doctor.html, and the picture of the range test, are written to
    `folder`, by default `<runs>/doctor-<experiment>-<hash of the knobs>-s<seed>`. Nothing is trained but a few hundred
    steps that are thrown away. For the folder of a run: `research.diagnose.examine.examine`.

    Raises UserError as `research.verbs.train` does, and for knobs beside the folder of a run.
    """
    stream = stream or sys.stdout
    if Path(file).is_dir():
        if knobs:
            raise UserError(f"{sorted(knobs)[0]} was given; a run has the knobs it was trained with: give RUN alone.")
        from research.diagnose.examine import examine

        findings = _sorted(examine(run_folder.find_run(file)))
        print(format_findings(findings) or f"nothing was found in {file}.", file=stream)
        return findings
    loaded = load(file)
    values = knob_values(loaded, knobs)
    out = Path(folder or Path(runs or os.environ.get("RESEARCH_RUNS", "runs")) / (
        f"doctor-{run_folder.folder_name(loaded, values, seed=seed)}"))  # fmt: skip
    outcomes, pictures = [], []
    with file_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        for outcome, drawn in checked(make_case(loaded.function(**values), seed=seed), rate_test=rate_test, out=out):
            print(line(outcome), file=stream, flush=True)
            outcomes.append(outcome)
            pictures += drawn
        path = out / "doctor.html"
        path.write_text(page(loaded.name, values, outcomes, pictures), encoding="utf-8", errors="replace")
    findings = _sorted([outcome for outcome in outcomes if isinstance(outcome, Finding)])
    problems = sum(found.problem for found in findings)
    passed = sum(isinstance(outcome, Passed) for outcome in outcomes)
    print(f"{problems} problems, {len(findings) - problems} worth a look, {passed} passed, "
          f"{len(outcomes) - passed - len(findings)} skipped: {path}", file=stream)  # fmt: skip
    return findings


def checked(case: Case, *, rate_test: bool, out: Path):
    """Each check's Outcome in turn, with the pictures (SVG) that it drew."""
    found = tables(case)
    yield data.finite(found), []
    lacking = "the training records lack the fields that the evaluation gives to the model"
    for rule, check in DATA.items():
        yield check(case, found) if found and found[0].training else Skipped(rule, lacking), []
    yield before.first_loss(case), []
    # One compiled step serves three checks, where the step's gradient is the loss's own.
    probe = rate.prepared(case)
    begun = (probe[0], probe[1]._replace(opt=probe[1].opt._replace(factor=np.float32(rate.LOWEST * 100))))
    yield before.gradients(case, begun if case.built.wired.grad_fn is None else None), []
    yield before.overfits(case), []
    yield before.separate(case), []
    yield before.estimate(case, begun), []
    if not rate_test or case.experiment.transform:
        why = "its steps have a transform: their loss does not tell how well it learns" if rate_test else "--no-rate"
        yield Skipped("learning rate", why), []
        return
    measured = rate.range_test(case, probe)
    yield rate.rate(case, measured), [rate.picture(measured, out / "rate.png")]


def line(outcome: Outcome) -> str:
    """An Outcome as a person reads it: one line, and under a Finding what to try."""
    if isinstance(outcome, Finding):
        return format_findings([outcome])
    return f"{'passed' if isinstance(outcome, Passed) else 'skipped'}: {outcome.rule}: {outcome.text}"


def page(name, knobs, outcomes, pictures) -> str:
    """doctor.html: what was found first, with remedies and figures; then what passed and what was skipped."""
    findings = _sorted([outcome for outcome in outcomes if isinstance(outcome, Finding)])
    shown = join(f"{key}={value} " for key, value in run_folder.plain(knobs).items())
    rest = [[_badge(outcome), outcome.rule, outcome.text] for outcome in outcomes if not isinstance(outcome, Finding)]
    return document(f"doctor: {name}", join([
        element("header", element("h1", name), element("p", "Checked before it runs. ", element("code", shown))),
        section("Found", *map(finding, findings)) if findings else element("p", "Nothing was found."),
        section("Learning rate", *[element("div", Html(svg), class_="plot") for svg in pictures]),
        section("Other checks", table(["", "check", ""], rest)) if rest else "",
    ]))  # fmt: skip


def _sorted(findings):
    return sorted(findings, key=lambda found: not found.problem)


def _badge(outcome: Passed | Skipped) -> Html:
    word, colour = ("passed", "finished") if isinstance(outcome, Passed) else ("skipped", "")
    return element("span", word, class_=f"badge {colour}")
