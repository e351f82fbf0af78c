"""Group runs that differ only by seed into recipes, and list the differences between recipes."""

import difflib
import hashlib
import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from research.data.fingerprint import FIRST_BATCH
from research.errors import UserError
from research.files import MOST_JSON, read_text
from research.runs.reader import Run

MAX_RECIPES = 26  # the console names them A to Z


class Group(NamedTuple):
    """The runs of one recipe, sorted by seed, and their name (see `named_groups`)."""

    name: str
    runs: list[Run]


class Differs(NamedTuple):
    """One difference between groups: its kind, its name, and its value in each group ("" if absent)."""

    kind: str
    name: str
    values: list[str]


def grouped(runs: Sequence[Run], *, same_code: bool = False) -> list[Group]:
    """Group runs by recipe, in order of first appearance.

    Runs share a recipe if they have the same experiment, source, data, knobs, starting checkpoint, versions, commit
    and uncommitted Python code. `same_code` ignores the commit and uncommitted changes. Raises UserError for a folder
    given twice, for more than 26 recipes, and for two runs with the same recipe and seed, which would count as two
    seeds.
    """
    recipes: dict[str, list[Run]] = {}
    folders = [run.folder.resolve() for run in runs]
    if duplicates := [folder for i, folder in enumerate(folders) if folder in folders[:i]]:
        raise UserError(f"{duplicates[0]} is given twice. Give each run once.")
    for run in runs:
        recipes.setdefault(_key(recipe(run, same_code=same_code)), []).append(run)
    if len(recipes) > MAX_RECIPES:
        raise UserError(f"got {len(recipes)} recipes, too many for one comparison; give {MAX_RECIPES} or fewer.")
    groups = named_groups([sorted(r, key=lambda run: str(seed_of(run)).zfill(12)) for r in recipes.values()])
    for group in groups:
        for first, second in zip(group.runs, group.runs[1:], strict=False):
            if seed_of(first) == seed_of(second):
                raise UserError(
                    f"{first.folder} and {second.folder} have the same recipe with the same seed {seed_of(first)}; "
                    "there is nothing to compare. Give only one of them."
                )
    return groups


def named_groups(groups: Sequence[Sequence[Run]]) -> list[Group]:
    """Name each group after the folder of its run, or after the part that the folders of its runs share.

    The name of the parent folder is added if two groups have the same name.
    """

    def name(runs, parts):
        names = {"/".join(run.folder.resolve().parts[-parts:]) for run in runs}
        stems = {re.sub(r"-s\d+$", "", name) for name in names}
        return min(names if len(runs) == 1 else stems)

    for parts in range(1, 9):
        names = [name(runs, parts) for runs in groups]
        if len(set(names)) == len(names):
            break
    return [Group(name, list(runs)) for name, runs in zip(names, groups, strict=True)]


def recipe(run: Run, *, same_code: bool = False) -> dict:
    """Return everything that determines the numbers of a run, except its seed and its hardware."""
    about = run.about
    parts = {name: about.get(name) for name in ("experiment", "knobs", "start_from", "versions")}
    parts |= {"source": sources(run), "data": data(run)}
    return parts if same_code else {**parts, "commit": about.get("commit"), "uncommitted": uncommitted(run)}


def alike(runs: Sequence[Run], *, same_code: bool = False) -> bool:
    """Return whether all runs have the same recipe."""
    return len({_key(recipe(run, same_code=same_code)) for run in runs}) == 1


def seed_of(run: Run):
    """Return the seed of a run, or "?" if it is not recorded."""
    return run.about.get("seed", "?")


def sources(run: Run) -> dict[str, str]:
    """Return {path: text} of the experiment's own files, as stored in the run folder."""
    root = run.folder / "source"
    return {path.relative_to(root).as_posix(): _text(path) for path in sorted(root.rglob("*.py"))}


def data(run: Run) -> dict[str, str]:
    """Return {name: number of records and hash} of the data sets of a run; the first batch depends on the seed."""
    found = run.about.get("data")
    items = found.items() if isinstance(found, dict) else ()
    return {
        name: f"{one.get('records')} records, {_digest(_key(one))}"
        for name, one in items
        if isinstance(one, dict) and name != FIRST_BATCH
    }


def uncommitted(run: Run) -> str:
    """Return the part of git.diff that can change results: Python files outside tests/."""
    path = run.folder / "git.diff"
    text = _text(path) if path.is_file() else ""
    parts = re.split(r"(?m)^(?=diff --git )", text)
    return "".join(p for p in parts if re.match(r"diff --git a/(?!tests/)\S*\.py ", p))


def _text(path) -> str:
    try:
        return read_text(path, most=MOST_JSON, errors="replace")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def differences(groups: Sequence[Group]) -> list[Differs]:
    """List all differences between groups, knobs first, hardware included.

    The first run of each group represents it.
    """
    first = [group.runs[0] for group in groups]
    tables = {
        "knob": [run.about.get("knobs") for run in first],
        "version": [run.about.get("versions") for run in first],
        "data": [data(run) for run in first],
        "source": [{path: _digest(text) for path, text in sources(run).items()} for run in first],
        "run": [{k: run.about[k] for k in ("experiment", "start_from", "commit") if run.about.get(k)} for run in first],
        "code": [{"uncommitted changes": _digest(diff) if (diff := uncommitted(run)) else "none"} for run in first],
        "hardware": [run.about.get("hardware") for run in first],
    }
    result = []
    for kind, columns in tables.items():
        columns = [column if isinstance(column, dict) else {} for column in columns]
        for name in dict.fromkeys(name for column in columns for name in column):
            values = [_written(column[name]) if name in column else "" for column in columns]
            if len(set(values)) > 1:
                result.append(Differs(kind, name, values))
    return result


def source_diff(base: Run, new: Run, *, names: tuple[str, str]) -> str:
    """Return the unified diff of the experiment's own files; empty if they are equal."""
    old_sources, new_sources = sources(base), sources(new)
    return "".join(
        "".join(
            difflib.unified_diff(
                old_sources.get(path, "").splitlines(True),
                new_sources.get(path, "").splitlines(True),
                *(f"{name}: {path}" for name in names),
            )
        )
        for path in sorted({**old_sources, **new_sources})
    )


def _written(value) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _key(parts) -> str:
    return json.dumps(parts, sort_keys=True, default=str)


def _digest(text) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
