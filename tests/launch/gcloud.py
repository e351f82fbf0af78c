"""Stands in for gcloud and curl on PATH: `python gcloud.py FOLDER gcloud ARGUMENTS`.

FOLDER/states holds the states that a slice goes through, one for each time it is asked, the last one for ever;
FOLDER/fail holds a text, and a call that has it among its arguments fails, each time a line of the file is used up.
FOLDER/calls is the record. Workers are folders of FOLDER, and commands are run in them.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

folder, program, *arguments = sys.argv[1:]
folder, text = Path(folder), " ".join(sys.argv[3:]).replace("\n", " ")
workers = [folder / f"worker{number}" for number in (0, 1)]


def pop(path, *, keep_last):
    lines = path.read_text().splitlines() if path.exists() else []
    if len(lines) > keep_last:
        path.write_text("".join(f"{line}\n" for line in lines[1:]))
    return lines[0] if lines else ""


def chosen():
    return workers if "--worker=all" in arguments else workers[:1]


if program == "curl":
    print(Path.home().name.removeprefix("worker"), end="")
    sys.exit(0)
with open(folder / "calls", "a") as file:
    print(text, file=file)
failing = (folder / "fail").read_text().splitlines() if (folder / "fail").exists() else []
if failing and failing[0] in text:
    pop(folder / "fail", keep_last=0)
    print(f"ERROR: (gcloud) told to fail: {failing[0]}", file=sys.stderr)
    sys.exit(1)
match [word for word in arguments if not word.startswith("-")][2:4]:
    case ["queued-resources", "create"]:
        for worker in workers:
            worker.mkdir()
    case ["queued-resources", "describe"]:
        if not workers[0].exists():
            sys.exit("ERROR: (gcloud) NOT_FOUND")
        state = pop(folder / "states", keep_last=1)
        print(state if "--format=value(state.state)" in arguments else f"state: {state}")
    case ["queued-resources", "delete"]:
        for worker in workers:
            while worker.exists():  # a command may still write there
                shutil.rmtree(worker, ignore_errors=True)
    case ["tpu-vm", "scp"]:
        source, target = [word for word in arguments if not word.startswith("-")][4:]
        for worker in chosen():
            if ":" in source:
                shutil.copytree(worker / source.split(":")[1], Path(target) / "runs", dirs_exist_ok=True)
            else:
                shutil.copy(source, worker / target.split(":")[1])
    case ["tpu-vm", "ssh"]:
        (command,) = [word.removeprefix("--command=") for word in arguments if word.startswith("--command=")]
        codes = [
            subprocess.call(["bash", "-c", command], cwd=worker, env={**os.environ, "HOME": str(worker)})
            for worker in chosen()
        ]
        sys.exit(max(codes))
    case other:
        sys.exit(f"ERROR: (gcloud) what is {other}?")
