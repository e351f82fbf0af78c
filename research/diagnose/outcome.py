"""The result of a check: Passed, Skipped or a Finding."""

from typing import NamedTuple

from research.diagnose.finding import Finding


class Passed(NamedTuple):
    """The check found no problem: its name, and one line with the measured numbers."""

    rule: str
    text: str


class Skipped(NamedTuple):
    """The check does not apply: its name, and the reason."""

    rule: str
    text: str


Outcome = Finding | Passed | Skipped
