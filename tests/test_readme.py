"""The README's code runs as it stands, and what it names exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from research.cli._command import verbs

VERBS = verbs()
ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python(?: file=(\S+))?\n(.*?)```", TEXT, re.DOTALL)


def test_the_python_blocks_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = ""
    for name, code in BLOCKS:
        if name:
            (tmp_path / name).write_text(code)
        else:
            script += code
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    accuracy = re.search(r"^(0\.\d+) runs/mine-", done.stdout, re.MULTILINE)
    assert accuracy and float(accuracy[1]) > 0.9
    for line in re.findall(r"^python -m research ((?:evaluate|predict|report|train mine).*)$", TEXT, re.MULTILINE):
        line = line.replace("-s0", "-s1").replace("--hidden 64", "--hidden 32")
        done = subprocess.run(f"{sys.executable} -m research {line}", shell=True, capture_output=True, text=True)
        assert done.returncode == 0, (line, done.stderr[-2000:])


@pytest.mark.parametrize("command", ["--help", *(f"{verb} --help" for verb in VERBS)])
def test_every_verb_has_help(command):
    done = subprocess.run([sys.executable, "-m", "research", *command.split()], capture_output=True, text=True)
    assert done.returncode == 0 and "usage: python -m research" in done.stdout


def test_what_it_names_exists():
    for path in re.findall(r"`((?:research|experiments)/[\w./]+)`", TEXT):
        assert (ROOT / path).exists(), path
    for verb in re.findall(r"python -m research (\w+)", TEXT):
        assert verb in VERBS
