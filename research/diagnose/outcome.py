"""What a check says where there is nothing to find; a `Finding` is its third answer."""

from typing import NamedTuple

from research.diagnose.finding import Finding


class Passed(NamedTuple):
    """All is well: the check's name, and in a line the figures that say so."""

    rule: str
    text: str


class Skipped(NamedTuple):
    """The check does not apply: its name, and why."""

    rule: str
    text: str


Outcome = Finding | Passed | Skipped
