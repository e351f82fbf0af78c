"""Runs that differ by their seed only are one recipe; what the recipes differ in."""

import difflib
import hashlib
import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from research.errors import UserError
from research.runs.reader import Run


class Group(NamedTuple):
    """The runs of one recipe, by seed; the `name` is A for the first that was given, then B, C, ..."""

    name: str
    runs: list[Run]


class Differs(NamedTuple):
    """One thing in which groups differ: what kind it is, its name, and its value in each group ("" where absent)."""

    kind: str
    name: str
    values: list[str]


def grouped(runs: Sequence[Run], *, same_code: bool = False) -> list[Group]:
    """Groups in the order given: the same experiment, source, knobs, first checkpoint, versions, commit and
    uncommitted Python.

    `same_code` says that commit and uncommitted changes do not matter. Raises UserError for a folder given twice and
    for two runs of one recipe and one seed: as seeds they would count double.
    """
    found: dict[str, list[Run]] = {}
    folders = [run.folder.resolve() for run in runs]
    if twice := [folder for i, folder in enumerate(folders) if folder in folders[:i]]:
        raise UserError(f"{twice[0]} is given twice; a run does not differ from itself.")
    for run in runs:
        found.setdefault(_key(recipe(run, same_code=same_code)), []).append(run)
    if len(found) > 26:
        raise UserError(f"{len(found)} recipes are too many to be read side by side; give 26 or fewer.")
    groups = [
        Group(chr(ord("A") + i), sorted(group, key=lambda run: str(seed_of(run)).zfill(12)))
        for i, group in enumerate(found.values())
    ]
    for group in groups:
        for one, other in zip(group.runs, group.runs[1:], strict=False):
            if seed_of(one) == seed_of(other):
                raise UserError(
                    f"{one.folder} and {other.folder} are the same recipe with the same seed {seed_of(one)}: there is "
                    "nothing to compare. Give one of them."
                )
    return groups


def recipe(run: Run, *, same_code: bool = False) -> dict:
    """What a run's numbers depend on besides its seed and its hardware."""
    about = run.about
    parts = {name: about.get(name) for name in ("experiment", "knobs", "start_from", "versions")}
    parts["source"] = sources(run)
    return parts if same_code else {**parts, "commit": about.get("commit"), "uncommitted": uncommitted(run)}


def alike(runs: Sequence[Run], *, same_code: bool = False) -> bool:
    """Whether all runs are of one recipe."""
    return len({_key(recipe(run, same_code=same_code)) for run in runs}) == 1


def seed_of(run: Run):
    """The seed of a run, or "?"."""
    return run.about.get("seed", "?")


def sources(run: Run) -> dict[str, str]:
    """{path: text} of the experiment's own files, as the run keeps them."""
    root = run.folder / "source"
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8", errors="replace")
        for path in sorted(root.rglob("*.py"))
    }


def uncommitted(run: Run) -> str:
    """The part of git.diff that can matter: Python files outside of tests."""
    path = run.folder / "git.diff"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    parts = re.split(r"(?m)^(?=diff --git )", text)
    return "".join(p for p in parts if re.match(r"diff --git a/(?!tests/)\S*\.py ", p))


def differences(groups: Sequence[Group]) -> list[Differs]:
    """All in which groups differ, knobs first; the first run of each group speaks for it. Hardware is told too."""
    first = [group.runs[0] for group in groups]
    tables = {
        "knob": [run.about.get("knobs") for run in first],
        "version": [run.about.get("versions") for run in first],
        "source": [{path: _digest(text) for path, text in sources(run).items()} for run in first],
        "run": [{k: run.about[k] for k in ("experiment", "start_from", "commit") if run.about.get(k)} for run in first],
        "code": [{"uncommitted changes": _digest(found) if (found := uncommitted(run)) else "none"} for run in first],
        "hardware": [run.about.get("hardware") for run in first],
    }
    found = []
    for kind, columns in tables.items():
        columns = [column if isinstance(column, dict) else {} for column in columns]
        for name in dict.fromkeys(name for column in columns for name in column):
            values = [_written(column[name]) if name in column else "" for column in columns]
            if len(set(values)) > 1:
                found.append(Differs(kind, name, values))
    return found


def source_diff(base: Run, new: Run, *, names: tuple[str, str] = ("A", "B")) -> str:
    """The unified difference of the experiment's own files; empty where they are the same."""
    old, now = sources(base), sources(new)
    return "".join(
        "".join(
            difflib.unified_diff(
                old.get(path, "").splitlines(True),
                now.get(path, "").splitlines(True),
                *(f"{name}: {path}" for name in names),
            )
        )
        for path in sorted({**old, **now})
    )


def _written(value) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _key(parts) -> str:
    return json.dumps(parts, sort_keys=True, default=str)


def _digest(text) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
