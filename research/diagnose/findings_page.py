"""Findings as HTML for the page of a run: the text, its plot and the actions to try."""

import re

import numpy as np

from research.diagnose.examine import examined
from research.diagnose.finding import Finding
from research.html import marks
from research.html.chart import Axis, chart
from research.html.markup import Html, element, format_number, join, section, table
from research.runs.reader import Run

MAX_CURVES = 6


def diagnosis(run: Run) -> Html:
    """Return the section "Diagnosis" with the findings of a run; empty for a run without metrics."""
    if not run.metrics:
        return Html()
    findings = examined(run)
    if not findings:
        text = "No problem found in the loss, layers, speed or evaluations of this run."
        return section("Diagnosis", element("p", text))
    return section("Diagnosis", *map(finding, findings))


def finding(found: Finding) -> Html:
    """Return a Finding with its evidence, as a plot or a table, and its remedies."""
    word, colour = ("problem", "failed") if found.problem else ("look", "preempted")
    kind = element("span", word, class_=f"badge {colour}")
    remedies = [element("li", with_code(remedy)) for remedy in found.remedies]
    return element(
        "div",
        element("h3", found.rule.capitalize(), " ", kind),
        element("p", found.text),
        _evidence(found),
        join([element("p", "What to try:", class_="remark"), element("ul", *remedies)]) if remedies else "",
        class_="finding",
    )


def with_code(remedy: str) -> Html:
    """Set the code of a remedy in a code font: what is between backticks, or else what looks like code, to its end."""
    if "`" in remedy:
        parts = remedy.split("`")
        return join(element("code", part) if i % 2 else part for i, part in enumerate(parts))
    match = re.search(r"(^|: )((python -m |JAX_\w+=|[\w.]+(\(| = |=)).*)$", remedy)
    return join([remedy[: match.start(2)], element("code", match[2])]) if match else join([remedy])


def _evidence(found: Finding) -> Html:
    """The evidence as curves over steps, or single numbers as a table."""
    lists = {name: values for name, values in found.evidence.items() if isinstance(values, list)}
    steps = lists.pop("step", None)
    if steps:
        curves = {name: values for name, values in lists.items() if len(values) == len(steps)}
        return element("div", Html(_plot(found, steps, curves)), class_="plot") if curves else Html()
    single = {name: value for name, value in found.evidence.items() if isinstance(value, int | float)}
    return (
        table(list(single), [[format_number(value) for value in single.values()]], numeric=single) if single else Html()
    )


def _plot(found, steps, curves) -> str:
    plotted = list(curves.items())[:MAX_CURVES]
    drawn = [
        marks.line(steps, values, name=name, dots=len(steps) < 25, **marks.look(i))
        for i, (name, values) in enumerate(plotted)
    ]
    values = np.array([value for _, values in plotted for value in values], float)
    values = values[np.isfinite(values)]
    log = bool(values.size and values.min() > 0 and values.max() > 100 * values.min())
    if found.step is not None and steps[0] <= found.step < steps[-1]:
        drawn.append(marks.rule(found.step, colour=marks.COLOURS[5], dash="5 3"))
    label = f"{found.rule}: {', '.join(curves)}, over the step"
    return chart(drawn, label=label, x=Axis("step", whole=True), y=Axis(log=log), width=500, height=170)
