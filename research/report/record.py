"""The record of a run as HTML: what would have to be the same for the same numbers to come out."""

from datetime import UTC, datetime

from research.files import number
from research.html.markup import Html, details, element, join, section
from research.runs.reader import Run

LARGEST = 200_000  # characters of a file on the page


def recorded(run: Run) -> Html:
    """Knobs, seed, versions, hardware, commit, command, description, checkpoints, and the source folded away."""
    about = run.about
    created = number(about.get("created"))
    facts = {
        "command": about.get("command"),
        "seed": about.get("seed"),
        "commit": about.get("commit"),
        "created": created and datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "checkpoints": ", ".join(f"step {step}" for step in _steps(run.folder / "checkpoints")),
        "set aside as damaged": ", ".join(_names(run.folder / "damaged")),
    }
    facts = {key: value for key, value in facts.items() if value not in (None, "")}
    tables = [
        element("div", element("h3", title), _pairs(values))
        for title, values in {
            "Knobs": about.get("knobs"), "Versions": about.get("versions"), "Hardware": about.get("hardware")
        }.items()
        if values
    ]  # fmt: skip
    doc = about.get("doc")
    return section(
        "Record of the run",
        _pairs(facts) if facts else "",
        element("div", *tables, class_="columns") if tables else "",
        join([element("h3", "What the experiment says of itself"), element("pre", doc.strip())]) if doc else "",
        *_sources(run.folder),
    )


def _pairs(values) -> Html:
    """Names and values; a value that is no mapping is shown as it is."""
    if not isinstance(values, dict):
        return element("p", values)
    rows = [[key, element("code", value)] for key, value in values.items()]
    return element("div", element("table", *[_row(row) for row in rows]), class_="scroll pairs")


def _row(cells) -> Html:
    name, value = cells
    return element("tr", element("th", name, class_="words"), element("td", value, class_="words"))


def _steps(folder) -> list[int]:
    return sorted(int(name) for name in _names(folder) if name.isdigit())


def _names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _sources(folder) -> list[Html]:
    """Every file of source/, and the difference to the commit, each folded away."""
    root = folder / "source"
    files = {
        path.relative_to(root).as_posix(): path
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    if (folder / "git.diff").is_file() and (folder / "git.diff").stat().st_size:
        files["git.diff: what differed from the commit"] = folder / "git.diff"
    shown = []
    for name, path in files.items():
        content = path.read_text(encoding="utf-8", errors="replace")
        if len(content) > LARGEST:
            content = content[:LARGEST] + f"\n… and {len(content) - LARGEST} characters more, in {path.name}"
        shown.append(details(name, element("pre", content)))
    return [element("h3", "Source"), *shown] if shown else []
