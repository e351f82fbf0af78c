"""What a launch does before it does it: a Job, and the Plan (files and commands) that a place makes of it."""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from research.errors import UserError


class Job(NamedTuple):
    """What is to run: `python -m research ARGUMENTS`, such as ("train", FILE, "--hidden", "64").

    `name` is new for every launch and fit for a queue (small letters, digits, dashes); `folder` holds its script,
    logs and status; `python` is the interpreter where launcher and job share a disk.
    """

    arguments: tuple[str, ...]
    name: str
    folder: str
    python: str = sys.executable

    def command(self, python: str | None = None) -> tuple[str, ...]:
        """The command of one process."""
        return (python or self.python, "-m", "research", *self.arguments)

    def given(self, *options: str) -> str | None:
        """The first of the `options` of train that its command line has, with its value; None for none of them."""
        for option, value in zip(self.arguments, [*self.arguments[1:], ""], strict=True):
            if option.partition("=")[0] in options:
                return option if "=" in option else f"{option} {value}"
        return None


class Plan(NamedTuple):
    """All that a launch will do: `files` {path: text} to write, then `commands` to run in order."""

    files: Mapping[str, str]
    commands: tuple[tuple[str, ...], ...]

    def __str__(self):
        """As `--dry-run` prints it: every file under its path, then the commands as a shell takes them."""
        parts = [f"==> {path} <==\n{text.rstrip()}\n" for path, text in self.files.items()]
        return "\n".join([*parts, *(f"$ {shlex.join(command)}" for command in self.commands)])


def launched() -> str:
    """The folder that holds a folder for each launch."""
    return f"{os.environ.get('RESEARCH_RUNS', 'runs')}/launched"


def submit(plan: Plan) -> int:
    """Writes the files and runs the commands; gives the first exit status that is not 0, else 0.

    Raises UserError where a program is not installed here.
    """
    for path, text in plan.files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")
    for command in plan.commands:
        if code := call(command):
            return code
    return 0


def call(command: tuple[str, ...]) -> int:
    """Runs one command in the foreground; gives its exit status. Raises UserError where there is no such program."""
    try:
        return subprocess.call(command)
    except FileNotFoundError:
        raise UserError(f"{command[0]} is not installed here, or not on PATH: {shlex.join(command)}") from None


def copied(job: Job, place: str) -> Job:
    """The job itself. Raises UserError where it is not the training of a file below the working folder, of which
    `place` gets a copy.
    """
    verb, file, *_ = job.arguments
    if verb != "train":
        raise UserError(f"{place} trains; to {verb}, use local or slurm.")
    if Path(file).is_absolute():
        raise UserError(f"{file} is outside the working folder, of which {place} gets a copy.")
    return job


def pairs(option: str, given) -> dict[str, str]:
    """The texts NAME=VALUE that an option was given, by name. Raises UserError for another form."""
    for text in given:
        if "=" not in text:
            raise UserError(f"{option} takes NAME=VALUE, not {text!r}.")
    return dict(text.split("=", 1) for text in given)
