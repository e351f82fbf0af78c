"""The result of a check that found something: the observation, its numbers and the actions to try."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Finding(NamedTuple):
    """One observation of a check.

    `rule`: the name of the check, such as "dead units". `problem`: True if something is broken, False if it is only
    worth a look. `text`: the observation with its numbers, in one or two sentences. `remedies`: two or three actions to
    try, one line each; code can be pasted into the experiment. `evidence`: {name: number or list}, the data behind the
    text. A list is a curve; the list "step" holds its x values. `step`: the step of the run at which it was seen.
    """

    rule: str
    problem: bool
    text: str
    remedies: tuple[str, ...]
    evidence: Mapping[str, Any] = {}
    step: int | None = None


def format_findings(findings) -> str:
    """Format findings as lines of text, problems first."""
    lines = []
    for finding in sorted(findings, key=lambda finding: not finding.problem):
        lines += [f"{'problem' if finding.problem else 'look'}: {finding.rule}: {finding.text}"]
        lines += [f"    try: {remedy}" for remedy in finding.remedies]
    return "\n".join(lines)
