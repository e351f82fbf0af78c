"""Finding the files of a checkpoint: a file, a folder, or the local cache of the Hugging Face Hub.

Nothing is downloaded.
"""

import os
import re
from pathlib import Path
from typing import Any

from research.errors import UserError, check_path, format_names, nearest
from research.files import read_json
from research.weights.files import Stored, read_header
from research.weights.pickled import read_pickled

# In this order: the first that exists has the weights.
FILES = (
    "model.safetensors", "model.safetensors.index.json", "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
SUFFIXES = {".safetensors": read_header, ".bin": read_pickled, ".pth": read_pickled, ".pt": read_pickled}


def read_checkpoint(source) -> dict[str, Stored]:
    """Return {name: Stored} of all arrays of a checkpoint, without reading their data.

    `source` is a file (.safetensors, .bin, .pth or .pt), a folder, or the name "organisation/model" of a repository in
    the local cache of the Hugging Face Hub. A folder may hold several files with an index. Raises UserError if a file
    is missing or damaged.
    """
    path = find_source(source)
    if path.is_file():
        return _read(path.resolve())
    names = sorted(entry.name for entry in path.iterdir())
    first = next((name for name in FILES if name in names), None)
    if first is None:
        others = [name for name in names if Path(name).suffix in SUFFIXES]
        if len(others) != 1:
            raise UserError(
                f"{path} has no {FILES[0]} or {FILES[4]}, and {len(others)} other files of weights"
                f"{': ' if others else ''}{format_names(others)}. Name the file: {path}/FILE."
            )
        first = others[0]
    if not first.endswith(".json"):
        return _read(inside(path, first))
    return _read_shards(path, inside(path, first))


def _read(file: Path) -> dict[str, Stored]:
    if file.suffix not in SUFFIXES and not re.fullmatch("[0-9a-f]{40,64}", file.name):  # a blob of the hub's cache
        raise UserError(f"{file} has the suffix {file.suffix!r}; expected one of {', '.join(SUFFIXES)}.")
    if file.suffix in SUFFIXES:
        return SUFFIXES[file.suffix](file)
    with open(file, "rb") as stream:
        return read_pickled(file) if stream.read(2) in (b"PK", b"\x80\x02") else read_header(file)


def _read_shards(folder, index) -> dict[str, Stored]:
    """Read the files that an index names. Its weight_map {name: file} decides where an array is read."""
    weight_map = read_json(index)
    weight_map = weight_map.get("weight_map") if isinstance(weight_map, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise UserError(f"{index} is damaged: expected a weight_map of names and files.")
    found, shards = {}, {name: _read(inside(folder, name)) for name in sorted(set(weight_map.values()))}
    for name, shard in weight_map.items():
        if name not in shards[shard]:
            raise UserError(f"{index} expects the array {name!r} in {shard}, which does not have it.")
        found[name] = shards[shard][name]
    for shard, arrays in shards.items():
        if extra := [name for name in arrays if weight_map.get(name) != shard]:
            raise UserError(f"{folder / shard} has the array {extra[0]!r}, which is not in {index.name}.")
    return found


def inside(folder: Path, name: str) -> Path:
    """Return the file `name` in a folder, with links followed.

    Raises UserError if it does not exist, and if the name or a link leads out of the folder. In the Hub's cache, a link
    may lead to another folder of the same repository.
    """
    if Path(name).name != name or name in ("", ".", ".."):
        raise UserError(f"{folder} names the file {name!r}; expected the name of a file in this folder.")
    if not (folder / name).exists():
        there = sorted(entry.name for entry in folder.iterdir())
        raise UserError(f"{folder} has no file {name}.{nearest(name, there)} It has: {format_names(there) or 'none'}.")
    top = folder.resolve()
    top = top.parent.parent if top.parent.name == "snapshots" else top
    target = (folder / name).resolve()
    if not target.is_relative_to(top):
        raise UserError(f"{folder / name} is a link out of {top}. Copy the file, or name it directly.")
    return target


def find_source(source) -> Path:
    """Return the path of a file, a folder, or a repository in the local cache of the Hub.

    Raises UserError if it does not exist.
    """
    check_path(source, "a file or folder of weights, or the name of a repository in the cache of the Hub")
    path = Path(source).expanduser()
    if path.exists():
        return path
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(source)) or ".." in Path(str(source)).parts:
        raise UserError(f"there is no file or folder {source}.")
    hub = _hub()
    repository = hub / f"models--{str(source).replace('/', '--')}"
    if not repository.is_dir():
        known = [entry.name.removeprefix("models--").replace("--", "/") for entry in hub.glob("models--*")]
        raise UserError(
            f"there is no file or folder {source}, and no repository of this name in {hub}.{nearest(source, known)} "
            "Nothing is downloaded; fetch it with: hf download NAME."
        )
    reference = repository / "refs" / "main"
    revision = reference.read_text().strip() if reference.is_file() else ""
    if not re.fullmatch("[0-9a-f]{40}", revision) or not (repository / "snapshots" / revision).is_dir():
        raise UserError(f"{repository} has no snapshot of its main revision. Name the folder of a snapshot.")
    return repository / "snapshots" / revision


def _hub() -> Path:
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def read_config(source) -> dict[str, Any]:
    """Return the content of config.json of a folder, or of a repository in the local cache of the Hub.

    Raises UserError if the folder has none, or if it is not a JSON object.
    """
    folder = find_source(source)
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; expected a folder with a config.json.")
    config = read_json(inside(folder, "config.json"))
    if not isinstance(config, dict):
        raise UserError(f"{folder}/config.json holds a {type(config).__name__}; expected an object.")
    return config
