"""Describe a launch before it happens: a Job, and the Plan (files and commands) that a place makes of it."""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from research.errors import UserError


class Job(NamedTuple):
    """A command to launch: `python -m research ARGUMENTS`, such as ("train", FILE, "--hidden", "64").

    `name` is unique to the launch and valid in every queue (lower-case letters, digits, dashes). `folder` holds the
    script, logs and status. `python` is the interpreter if launcher and job share a disk.
    """

    arguments: tuple[str, ...]
    name: str
    folder: str
    python: str = sys.executable

    def command(self, python: str | None = None) -> tuple[str, ...]:
        """Return the command of one process."""
        return (python or self.python, "-m", "research", *self.arguments)

    def given(self, *options: str) -> str | None:
        """Return the first of `options` on the command line, with its value, or None if there is none."""
        for option, value in zip(self.arguments, [*self.arguments[1:], ""], strict=True):
            if option.partition("=")[0] in options:
                return option if "=" in option else f"{option} {value}"
        return None


class Plan(NamedTuple):
    """The complete effect of a launch: `files` {path: text} to write, then `commands` to run in order."""

    files: Mapping[str, str]
    commands: tuple[tuple[str, ...], ...]

    def __str__(self):
        """Format the plan for `--dry-run`: every file under its path, then the commands in shell syntax."""
        parts = [f"==> {path} <==\n{text.rstrip()}\n" for path, text in self.files.items()]
        return "\n".join([*parts, *(f"$ {folded(command)}" for command in self.commands)])


def folded(command: Sequence[str], *, width: int = 78, indent: str = "    ") -> str:
    """Return the shell syntax of a command, with a backslash where a line would be longer than `width`."""
    lines = [""]
    for word in map(shlex.quote, command):
        if lines[-1].strip() and len(lines[-1]) + 1 + len(word) > width - 4:
            lines.append(indent)
        lines[-1] += f"{' ' if lines[-1].strip() else ''}{word}"
    return " \\\n".join(lines)


def launched() -> str:
    """Return the folder that contains one folder per launch."""
    return f"{os.environ.get('RESEARCH_RUNS', 'runs')}/launched"


def submit(plan: Plan) -> int:
    """Write the files and run the commands; return the first nonzero exit status, otherwise 0.

    Commands after a failure do not run. Raises UserError if a program is not installed.
    """
    for path, text in plan.files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")
    for command in plan.commands:
        if code := call(command):
            return code
    return 0


def call(command: tuple[str, ...]) -> int:
    """Run one command in the foreground and return its exit status. Raises UserError if the program is missing."""
    try:
        return subprocess.call(command)
    except FileNotFoundError:
        raise UserError(f"{command[0]} is not installed, or not on PATH: {shlex.join(command)}") from None


def copied(job: Job, place: str) -> Job:
    """Return the job, checked for a `place` that gets a copy of the working folder.

    Raises UserError unless the job trains an experiment file inside the working folder.
    """
    verb, file, *_ = job.arguments
    if verb != "train":
        raise UserError(f"{place} supports only train; for {verb}, use local or slurm.")
    if Path(file).is_absolute():
        raise UserError(f"{file} is outside the working folder; {place} gets a copy of that folder only.")
    return job


def one_line(option: str, value: str) -> str:
    """Return the value of an option. Raises UserError if it has a line break, which would begin a line of a script."""
    if "".join(value.splitlines()) != value:
        raise UserError(f"{option} must be one line, got {value!r}.")
    return value


def pairs(option: str, values) -> dict[str, str]:
    """Parse the NAME=VALUE values of an option into a dict. Raises UserError for any other form."""
    for text in values:
        if "=" not in text:
            raise UserError(f"{option} must be NAME=VALUE, got {text!r}.")
    return dict(text.split("=", 1) for text in values)
