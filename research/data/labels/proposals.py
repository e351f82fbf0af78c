"""Proposals: other classes for labels that are probably wrong, as a table that a person decides on.

The file is CSV with the columns of Proposal. A decision is `accept`, `reject`, the name of another class, or empty.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from research.errors import UserError, unknown
from research.files import atomic_write, read_text

ACCEPT, REJECT = "accept", "reject"


class Proposal(NamedTuple):
    """One proposal: the number of the record, the given and the proposed class, and the probability of the latter."""

    record: int
    given: str
    proposed: str
    confidence: float
    decision: str = ""
    reason: str = ""


def write_proposals(path, proposals: Sequence[Proposal]) -> list[Proposal]:
    """Write proposals in their order, and return what was written. Decisions that the file already has are kept.

    A decision is kept with its row if the record still has the same given class and proposal; other rows with a
    decision are kept below.
    """
    path = Path(path)
    decided = {p[:3]: p for p in (read_proposals(path) if path.exists() else ()) if p.decision or p.reason}
    rows = [p._replace(decision=d.decision, reason=d.reason) if (d := decided.pop(p[:3], None)) else p
            for p in proposals]  # fmt: skip
    rows += decided.values()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(Proposal._fields)
        table.writerows(p._replace(confidence=f"{p.confidence:.4f}") for p in rows)
    return rows


def read_proposals(path) -> list[Proposal]:
    """Read proposals, also from a spreadsheet that added a byte-order mark or writes semicolons.

    Raises UserError with the line for other columns, a record that is not a number, and a record that occurs twice.
    """
    text = read_text(path, errors="replace").removeprefix("\ufeff")
    delimiter = ";" if ";" in text.split("\n")[0] else ","
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        head = [name.strip() for name in next(lines, [])]
        rows = [(lines.line_num, row) for row in lines if any(row)]
    except csv.Error as error:
        raise UserError(f"{path}, line {lines.line_num} is not CSV: {error}.") from error
    for name in Proposal._fields[:5]:
        if name not in head:
            raise UserError(f"{path} has no column {name!r}; expected {', '.join(Proposal._fields)}.")
    proposals, seen = [], {}
    for line, row in rows:
        values = dict(zip(head, (cell.strip() for cell in row), strict=False))
        try:
            record, confidence = int(values["record"]), float(values["confidence"].replace(",", "."))
            given, proposed, decision = (values[name] for name in ("given", "proposed", "decision"))
        except (KeyError, ValueError) as error:
            raise UserError(f"{path}, line {line}: {error}; expected {', '.join(head)}.") from error
        if record in seen:
            raise UserError(f"{path}, line {line}: record {record} is also in line {seen[record]}; remove one.")
        seen[record] = line
        proposals.append(Proposal(record, given, proposed, confidence, decision, values.get("reason", "")))
    return proposals


def decided_class(proposal: Proposal, classes: Sequence[str]) -> str | None:
    """Return the class that was decided on: the given class if the proposal is rejected, None if it is undecided.

    Raises UserError for a decision that is neither `accept`, `reject` nor a class, with the nearest one.
    """
    decision = proposal.decision
    if not decision:
        return None
    new = {ACCEPT: proposal.proposed, REJECT: proposal.given}.get(decision, decision)
    if new not in classes:
        raise unknown(f"decision for record {proposal.record}", decision, (ACCEPT, REJECT, *classes))
    return new
