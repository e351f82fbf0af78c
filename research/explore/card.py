"""A data set card: origin, licence, consent, columns, splits and known faults, as a page and as Croissant JSON-LD.

After Gebru et al. 2021, "Datasheets for Datasets", and Pushkarna et al. 2022, "Data Cards". The facts of a packaged
data set are those of `research.data.packaged`; for other tables they are arguments. The page names missing facts.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from research.data.fingerprint import fingerprint
from research.diagnose.finding import Finding
from research.errors import UserError
from research.explore.columns import Summary, coded, groups_of, summary
from research.explore.croissant import croissant
from research.explore.draw import column_table
from research.explore.findings import column_findings, target_findings
from research.explore.page import default_path
from research.explore.source import Source, opened
from research.files import to_json
from research.html.document import document, write_page
from research.html.markup import element, join, section, shortened, table

STATED = ("description", "origin", "licence", "consent")


class Facts(NamedTuple):
    """What people state about a data set; "" if nobody did.

    description: its content, in a sentence
    origin: who collected it, how and where, with a URL
    licence: its name or URL
    consent: whether the people in the data agreed to this use
    faults: known faults
    split: the origin of the split
    best: the best known number
    """

    description: str = ""
    origin: str = ""
    licence: str = ""
    consent: str = ""
    faults: tuple[str, ...] = ()
    split: str = ""
    best: str = ""


class Card(NamedTuple):
    """A data set card.

    splits: {split: number of records}
    measured: findings of the records themselves
    fingerprint: of the records of each split, or of the table (`research.data.fingerprint`)
    sha256: of the file, "" without one
    path, metadata: the page and the Croissant file
    """

    source: Source
    facts: Facts
    splits: Mapping[str, int]
    summaries: Mapping[str, Summary]
    measured: tuple[Finding, ...]
    fingerprint: str
    sha256: str
    path: Path | None = None
    metadata: Path | None = None

    @property
    def not_stated(self) -> list[str]:
        """The names of the facts that nobody stated."""
        return [name for name in STATED if not getattr(self.facts, name)]

    def __repr__(self):
        lines = [f"Page: {self.path}", f"Croissant: {self.metadata}"]
        return "\n".join([*lines, *([f"Not stated: {', '.join(self.not_stated)}"] if self.not_stated else [])])


def card(
    data, *, target: str | None = None, description: str = "", origin: str = "", licence: str = "", consent: str = "",
    faults: Sequence[str] = (), out=None, **reading,
) -> Card:  # fmt: skip
    """Write the card of a data set as a page, and beside it the same facts as Croissant JSON-LD.

    data, target, reading: as in `explore`
    description, origin, licence, consent, faults: see `Facts`; of a packaged data set they are known
    out: the page; by default card-NAME.html in the current folder. The other file has the suffix .json

    Raises UserError as `explore` does, and for a fact that is known already.
    """
    given = Facts(description, origin, licence, consent, tuple(faults))
    source = opened(data, target=target, **reading)
    known = source.table
    codes = coded(known)
    groups = groups_of(known, codes)
    summaries = {name: summary(known, name, codes, groups) for name in known.schema}
    measured = column_findings(summaries, target=known.target)
    if known.target:
        measured += target_findings(summaries, {}, target=known.target)
    page = Path(out or default_path("card", source.name)).expanduser()
    made = Card(
        source=source,
        facts=_facts(source, given),
        splits=source.splits or {"all": len(known)},
        summaries=summaries,
        measured=tuple(measured),
        fingerprint=source.facts.content if source.facts else _content(known),
        sha256=_sha256(source.path) if source.path else "",
    )
    text = to_json(croissant(made, folder=page.parent), indent=1) + "\n"
    made = made._replace(metadata=write_page(text, page.with_suffix(".json")))
    return made._replace(path=write_page(_page(made), page))


def _facts(source: Source, given: Facts) -> Facts:
    if source.facts is None:
        return given
    if stated := [name for name, value in given._asdict().items() if value]:
        raise UserError(f"{stated[0]}= is known of {source.name}: see research/data/packaged/{source.name}.py.")
    known, package = source.facts, source.facts.package
    origin = f"{known.homepage}; read from {package.name} {package.version} ({package.client})"
    return Facts(known.summary, origin, known.licence, known.consent, known.faults, known.split, known.best)


def _content(known) -> str:
    return fingerprint(dataclasses.replace(known, target=None))["unordered"]  # records without a target count too


def _sha256(path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _page(made: Card) -> str:
    source, facts, name = made.source, made.facts, made.metadata.name
    split = f" of the split {source.split}" if source.split else ""
    absent = element("span", "not stated", class_="badge not-measured")
    rows = {
        "origin": facts.origin or absent,
        "licence": facts.licence or absent,
        "consent": facts.consent or absent,
        "records": ", ".join(f"{count:,} {split}" for split, count in made.splits.items()),
        "split": facts.split,
        "target": source.table.target or "",
        "best known": facts.best,
        "fingerprint": element("code", made.fingerprint),
        "SHA-256 of the file": element("code", made.sha256) if made.sha256 else "",
    }
    facts_table = table(["fact", "value"], [[element("b", name), value] for name, value in rows.items() if value])
    faults = [element("li", fault) for fault in facts.faults]
    measured = [element("li", one.text) for one in made.measured]
    parts = [
        element("header", element("h1", shortened(source.name, 120)), element("p", facts.description or absent)),
        section("Facts", element("div", facts_table, class_="pairs")),
        section("Known faults", element("ul", *faults) if faults else element("p", absent)),
        section("Measured", element("ul", *measured) if measured else element("p", "Nothing stands out.")),
        section("Columns", element("p", f"Of {len(source.table):,} records{split}.", class_="remark"),
                column_table(made.summaries, target=source.table.target)),
        section("Croissant", element("p", "The same facts for programs: ", element("a", name, href=quote(name)), ".")),
    ]  # fmt: skip
    return document(f"Card of {source.name}", join(parts))
