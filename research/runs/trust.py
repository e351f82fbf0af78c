"""Whose folder it is: the stored source of a run or sweep is executed only if this user made the folder.

A folder is signed when it is created, with a random key of this user. The key is in the state folder: $RESEARCH_STATE,
or `research` in $XDG_STATE_HOME, by default ~/.local/state. Hosts that share a home folder share the key; for other
hosts, set RESEARCH_STATE to a folder that they share. The signature covers everything that decides what would run: all
files below `source` and the knobs. A moved folder keeps its signature; an edited one loses it.
"""

import contextlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from research.errors import UserError
from research.files import check_regular, open_regular, read_json, read_text
from research.runs.experiment_file import source_digests

SETTING, SIGNATURE = "RESEARCH_STATE", ".signature"
MOST = 50  # signatures of a folder: one of each user or machine that trusts it
RECORDS = {"run.json": ("file", "knobs"), "sweep.json": ("file", "given")}


def sign(folder):
    """Mark a run or sweep folder as made by this user, in addition to the signatures of other users and machines.

    Without a place for the key, or in a folder that is not writable, only this process trusts the folder.
    """
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: the user has no home folder
        _of_this_process.add(content := _content(folder))
        lines = [*_signatures(folder), _signed(content, _key(create=True))]
        Path(folder, SIGNATURE).write_text("\n".join(dict.fromkeys(lines[-MOST:])), encoding="utf-8")


def check_trusted(folder, *, trust: bool = False):
    """Raise UserError unless this user made the folder. With `trust`, it is signed instead, and from now on trusted."""
    check_regular(folder, shallow=("trials",))
    if trust:
        sign(folder)
    elif not is_own(folder):
        raise UserError(
            f"{folder} was not made by this user on this machine, or its source or knobs were changed since. This "
            f"command would run the Python code in {Path(folder) / 'source'}. Read that code; if you trust it, run the "
            f"same command with --trust (trust=True in Python), once. For your own hosts, set {SETTING} to a folder "
            "that they share."
        )


def is_own(folder) -> bool:
    """Return whether this user made the folder, and its source and knobs are unchanged."""
    try:
        content = _content(folder)
        if content not in _of_this_process:
            expected = _signed(content, _key(create=False)).encode()
            if not any(hmac.compare_digest(line.encode(), expected) for line in _signatures(folder)):
                return False
            _of_this_process.add(content)
        return True
    except (OSError, RuntimeError, UserError):
        return False


_of_this_process: set[bytes] = set()  # what it signed or verified; the key may be out of reach later


def _signatures(folder) -> list[str]:
    path = Path(folder, SIGNATURE)
    return read_text(path, most=100 * MOST, errors="replace").split("\n") if path.exists() else []


def _content(folder) -> bytes:
    """Return everything that decides what would run, as bytes."""
    record = next((name for name in RECORDS if Path(folder, name).is_file()), "run.json")
    about = read_json(Path(folder, record))
    decisive = [about.get(name) for name in RECORDS[record]] if isinstance(about, dict) else None
    return json.dumps([decisive, source_digests(folder)], sort_keys=True).encode()


def _signed(content: bytes, key: bytes) -> str:
    return hmac.new(key, content, "sha256").hexdigest()


def state_folder(env: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the key. Raises RuntimeError if no variable names it and the user has no home folder."""
    if setting := env.get(SETTING):
        return Path(setting).expanduser()
    return Path(env.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "research"


def _key(*, create: bool) -> bytes:
    """Read the key of this user; `create` it if there is none."""
    path = state_folder() / "key"
    if create and not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".key.{os.uname().nodename}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode())
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process was first, and its key counts
            os.link(temporary, path)
        temporary.unlink()
    with open_regular(path) as file:
        key = file.read()
    if len(key) != 64:
        raise OSError(f"{path} is damaged")
    return key
