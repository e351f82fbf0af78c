"""What a check finds: in plain words what is wrong, by which figures, and what to try."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Finding(NamedTuple):
    """One thing that a check has to say.

    `rule`: its name, such as "dead units". `problem`: whether something is broken, rather than worth a look.
    `text`: what was seen, in a sentence or two, with the figures. `remedies`: two or three things to try, each a line
    that can be pasted into the experiment where it is one. `evidence`: {name: number or list}, what the text rests on;
    a list is a curve, beside the list "step" where it goes over steps. `step`: where in a run it was seen.
    """

    rule: str
    problem: bool
    text: str
    remedies: tuple[str, ...]
    evidence: Mapping[str, Any] = {}
    step: int | None = None


def format_findings(findings) -> str:
    """Findings as the lines of a text, what is broken first."""
    lines = []
    for found in sorted(findings, key=lambda found: not found.problem):
        lines += [f"{'problem' if found.problem else 'look'}: {found.rule}: {found.text}"]
        lines += [f"    try: {remedy}" for remedy in found.remedies]
    return "\n".join(lines)
