"""The share of its time that each shipped experiment waits for data, as its own run records it."""

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from research.runs.experiment_file import experiments

ROOT = Path(__file__).parents[2]


def share(file: str, *, seconds: float, folder) -> tuple[float, float] | None:
    """(share of waiting, steps a second) of the first `seconds` of a run, without its first line, which compiles.

    None where it wrote no second line: its data cannot be had here, or it took all of that to begin.
    """
    command = [sys.executable, "-m", "research", "train", file, "--no-report", "--run-dir", str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        process.wait()
    timing = Path(folder, "timing.jsonl")
    lines = [json.loads(line) for line in timing.read_text().splitlines()] if timing.exists() else []
    lines = [line for line in lines if "data_wait" in line][1:]
    total = sum(line["seconds"] for line in lines)
    if not total:
        return None
    steps = sum(line["seconds"] * line["steps_per_second"] for line in lines)
    return sum(line["seconds"] * line["data_wait"] for line in lines) / total, steps / total


def table(*, quick: bool = False) -> str:
    """All experiments as a table in Markdown."""
    rows = ["| experiment | waits for data, % | steps a second |", "|---|--:|--:|"]
    files = [str(Path(file).relative_to(ROOT)) for file in experiments(ROOT / "experiments")]
    for file in ["experiments/digits.py"] if quick else files:
        with tempfile.TemporaryDirectory() as folder:
            found = share(file, seconds=15 if quick else 40, folder=Path(folder, "run"))
        rows.append(f"| {file} | {100 * found[0]:.2f} | {found[1]:,.0f} |" if found else f"| {file} | not run here | |")
    return "\n".join(rows)
