"""The README's code runs as it stands, and what it names exists."""

import glob
import re
import subprocess
import sys
from pathlib import Path

import pytest

from research.__main__ import main
from research.cli._command import verbs

VERBS = verbs()
ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python(?: file=(\S+))?\n(.*?)```", TEXT, re.DOTALL)


def test_the_python_blocks_run_in_order_and_then_the_commands(tmp_path, monkeypatch):
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
    lines = re.findall(r"^python -m research ((?:evaluate|predict|report|train mine).*)$", TEXT, re.MULTILINE)
    for line in [*lines, *(line for line in lines if "report" not in line)]:  # they work when they are typed again
        line = line.replace("-s0", "-s1").replace("--hidden 512", "--hidden 32")
        words = [found for word in line.split() for found in glob.glob(word) or [word]]  # as a shell reads them
        assert main(words) == 0, line


@pytest.mark.parametrize("command", ["--help", *(f"{verb} --help" for verb in VERBS)])
def test_every_verb_has_help(command, capsys):
    try:
        assert main(command.split()) == 0
    except SystemExit as ended:  # as argparse does
        assert not ended.code
    assert "usage: python -m research" in capsys.readouterr().out


def test_what_it_names_exists():
    for path in re.findall(r"`((?:research|experiments)/[\w./]+)`", TEXT):
        assert (ROOT / path).exists(), path
    for verb in re.findall(r"python -m research (\w+)", TEXT):
        assert verb in {words.split()[0] for words in VERBS}
