"""The record of a run as HTML: everything needed to reproduce its numbers."""

from datetime import UTC, datetime

from research.files import MOST_JSON, number, read_text
from research.html.markup import Html, details, element, join, section
from research.runs.reader import Run

MAX_SOURCE = 200_000  # characters shown of a source file


def recorded(run: Run) -> Html:
    """Build the run record: command, seed, commit, checkpoints, knobs, versions, hardware and description.

    The source files are collapsed.
    """
    about = run.about
    created = number(about.get("created"))
    facts = {
        "command": about.get("command"),
        "seed": about.get("seed"),
        "commit": about.get("commit"),
        "created": created and datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "checkpoints": ", ".join(f"step {step}" for step in _steps(run.folder / "checkpoints")),
        "damaged checkpoints (set aside)": ", ".join(_names(run.folder / "damaged")),
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
        "Reproducibility record",
        _pairs(facts) if facts else "",
        element("div", *tables, class_="columns") if tables else "",
        join([element("h3", "Description of the experiment"), element("pre", doc.strip())]) if doc else "",
        *_sources(run.folder),
    )


def _pairs(values) -> Html:
    """A table of names and values; a value that is not a mapping is shown as text."""
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
    """Every file of source/ and the uncommitted changes, each collapsed."""
    root = folder / "source"
    files = {
        path.relative_to(root).as_posix(): path
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    if (folder / "git.diff").is_file() and (folder / "git.diff").stat().st_size:
        files["git.diff: uncommitted changes"] = folder / "git.diff"
    blocks = []
    for name, path in files.items():
        content = read_text(path, most=MOST_JSON, errors="replace")
        if len(content) > MAX_SOURCE:
            content = content[:MAX_SOURCE] + f"\n… {len(content) - MAX_SOURCE} more characters in {path.name}"
        blocks.append(details(name, element("pre", content)))
    return [element("h3", "Source"), *blocks] if blocks else []
