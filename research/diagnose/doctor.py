"""The doctor: all checks of an experiment file before it runs, or of a recorded run."""

import os
import sys
from pathlib import Path

import numpy as np

from research.checks import EvaluationError
from research.diagnose import after, before, copies, data, rate, splits, suspects, transfer
from research.diagnose.case import Case, make_case
from research.diagnose.finding import Finding, format_findings
from research.diagnose.findings_page import finding
from research.diagnose.outcome import Outcome, Passed, Skipped
from research.diagnose.tables import tables
from research.errors import UserError, own_line
from research.files import file_errors
from research.html.document import document
from research.html.markup import Html, element, join, section, table
from research.runs import folder as run_folder
from research.runs.experiment_file import load
from research.runs.knobs import as_option, plain
from research.runs.opened import knob_values, make_experiment
from research.runs.reader import read_run

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
    """Check an experiment file or a run folder, and return the findings, problems first.

    For a file, this runs the checks of its data, those of `research.diagnose.before` and, with `rate_test`, the
    learning-rate range test, and prints each result on `stream`. doctor.html and the plot of the range test are written
    to `folder`, by default `<runs>/doctor-<experiment>-<hash of the knobs>-s<seed>`. Only a few hundred steps are
    trained, and they are discarded. For a run folder, see `research.diagnose.examine.examine`.

    Raises UserError in the cases in which `research.verbs.train` does, and if knobs are passed with a run folder.
    """
    stream = stream or sys.stdout
    if Path(file).is_dir():
        if knobs:
            raise UserError(f"{sorted(knobs)[0]} was given, but the knobs of a run are fixed: pass RUN alone.")
        from research.diagnose.examine import examined

        run = read_run(run_folder.find_run(file))
        findings = _sorted([*examined(run), *after.missed_claims(run)])
        # A rule whose file is damaged finds nothing.
        text = format_findings(findings) or f"no problem found in {file}."
        print("\n".join([*run.problems, text]), file=stream)
        return findings
    loaded = load(file)
    values = knob_values(loaded, knobs)
    out = Path(folder or Path(runs or os.environ.get("RESEARCH_RUNS", "runs")) / (
        f"doctor-{run_folder.folder_name(loaded, values, seed=seed)}"))  # fmt: skip
    outcomes, pictures = [], []
    with own_line(loaded.files):
        experiment = make_experiment(loaded, values)
        try:
            results = checked(make_case(experiment, seed=seed), rate_test=rate_test, out=out)
        except EvaluationError as error:
            remedy = "compare the shapes and types of the fields with those that the measure expects"
            results = [(Finding(f"evaluation {error.name!r}", True, error.text, (remedy,)), [])]
    with file_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        for outcome, drawn in results:
            print(line(outcome), file=stream, flush=True)
            outcomes.append(outcome)
            pictures += drawn
        path = out / "doctor.html"
        path.write_text(page(loaded.name, values, outcomes, pictures), encoding="utf-8", errors="replace")
    findings = _sorted([outcome for outcome in outcomes if isinstance(outcome, Finding)])
    problems = sum(result.problem for result in findings)
    passed = sum(isinstance(outcome, Passed) for outcome in outcomes)
    print(f"{problems} problems, {len(findings) - problems} worth a look, {passed} passed, "
          f"{len(outcomes) - passed - len(findings)} skipped: {path}", file=stream)  # fmt: skip
    return findings


def checked(case: Case, *, rate_test: bool, out: Path):
    """Run the checks one by one; yield each Outcome with the plots (SVG) of the check."""
    sets = tables(case)
    yield data.finite(sets), []
    reason = "the training records lack fields that the evaluation passes to the model"
    # Of a table, the raw rows are examined instead of the features.
    of_split = splits.of_experiment(case, sets)
    for rule, check in DATA.items():
        known = of_split.pop(rule, None)
        yield known or (check(case, sets) if sets and sets[0].training else Skipped(rule, reason)), []
    for outcome in of_split.values():
        yield outcome, []
    yield before.first_loss(case), []
    yield transfer.last_layers(case), []
    # Three checks share one compiled step, if its gradient is that of the loss itself.
    probe = rate.prepared(case)
    begun = (probe[0], probe[1]._replace(opt=probe[1].opt._replace(factor=np.float32(rate.LOWEST * 100))))
    yield before.gradients(case, begun if case.built.wired.grad_fn is None else None), []
    yield before.overfits(case), []
    yield before.separate(case), []
    yield before.estimate(case, begun), []
    if not rate_test or case.experiment.transform:
        why = "the loss of a step with a transform does not measure learning" if rate_test else "--no-rate"
        yield Skipped("learning rate", why), []
        return
    measured = rate.range_test(case, probe)
    yield rate.rate(case, measured), [rate.picture(measured, out / "rate.svg")]


def line(outcome: Outcome) -> str:
    """Format an Outcome as one line of text, a Finding with one more line per remedy."""
    if isinstance(outcome, Finding):
        return format_findings([outcome])
    return f"{'passed' if isinstance(outcome, Passed) else 'skipped'}: {outcome.rule}: {outcome.text}"


def page(name, knobs, outcomes, pictures) -> str:
    """Return doctor.html: findings with remedies and plots first, then passed and skipped checks."""
    findings = _sorted([outcome for outcome in outcomes if isinstance(outcome, Finding)])
    knob_text = join(f"{key}={as_option(value)} " for key, value in plain(knobs).items())
    rest = [[_badge(outcome), outcome.rule, outcome.text] for outcome in outcomes if not isinstance(outcome, Finding)]
    return document(f"doctor: {name}", join([
        element("header", element("h1", name), element("p", "Checked before a run. ", element("code", knob_text))),
        section("Findings", *map(finding, findings)) if findings else element("p", "No problem found."),
        section("Learning rate", *[element("div", Html(svg), class_="plot") for svg in pictures]),
        section("Other checks", table(["", "check", ""], rest)) if rest else "",
    ]))  # fmt: skip


def _sorted(findings):
    return sorted(findings, key=lambda finding: not finding.problem)


def _badge(outcome: Passed | Skipped) -> Html:
    word, colour = ("passed", "finished") if isinstance(outcome, Passed) else ("skipped", "")
    return element("span", word, class_=f"badge {colour}")
