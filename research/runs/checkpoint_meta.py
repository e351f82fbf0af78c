"""The metadata of a checkpoint, `checkpoints/<step>/meta/meta.json`: reading them needs neither JAX nor Orbax."""

import contextlib
import json
import math
import zlib
from pathlib import Path

from research.files import read_text

FORMAT = 1


def read_meta(folder) -> dict:
    """Read the metadata of a checkpoint from its folder `<step>/meta`. Raises ValueError or OSError for damage."""
    sealed = json.loads(read_text(Path(folder) / "meta.json"))
    if zlib.crc32(sealed["payload"].encode()) != sealed["crc32"]:
        raise ValueError("the checksum of its metadata does not match")
    meta = json.loads(sealed["payload"])
    if meta["format"] != FORMAT:
        raise ValueError(f"its format is {meta['format']}; this version reads only format {FORMAT}")
    return meta


def write_meta(folder, meta: dict):
    """Write the metadata of a checkpoint to its folder `<step>/meta`, with a checksum of the metadata."""
    payload = json.dumps(meta)
    sealed = json.dumps({"crc32": zlib.crc32(payload.encode()), "payload": payload})
    (Path(folder) / "meta.json").write_text(sealed, encoding="utf-8")


def scores_by_step(folder) -> dict[int, float]:
    """Return {step: score} of the complete checkpoints in a folder, without opening them; -inf for no score."""
    scores = {}
    for path in Path(folder).glob("*"):
        if path.name.isdigit() and (path / "meta" / "meta.json").exists():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                scores[int(path.name)] = _score_of(path)
    return scores


def _score_of(step_folder) -> float:
    """Return the score in the metadata, which have a checksum; earlier versions stored it in a file only."""
    meta = read_meta(step_folder / "meta")
    if "score" not in meta:
        meta = json.loads(read_text(step_folder / "metrics" / "metrics"))
    return -math.inf if meta["score"] is None else float(meta["score"])
