"""Writing the weights of a trained network as a public checkpoint: config.json and model.safetensors."""

import json
from pathlib import Path

import numpy as np

from research.core import Trained
from research.errors import UserError
from research.files import atomic_write
from research.weights.files import write_safetensors
from research.weights.layout import Layout, groups_of, slots_of
from research.wrappers.frozen import named_arrays


def export(trained: Trained, layout: Layout, *, folder) -> Path:
    """Write model.safetensors and, if the layout has one, config.json. Return the folder.

    Import followed by export gives the same bytes for every array (except summands and converted types). Raises
    UserError if the folder has weights already, if an array has no place in the layout, and if the types of the arrays
    differ.
    """
    folder = Path(folder)
    if (folder / "model.safetensors").exists():
        raise UserError(f"{folder} already has a model.safetensors; choose a new folder.")
    ours = {name.removeprefix("stats/model/"): x for name, x in named_arrays(trained.params, trained.stats).items()}
    ours = {path: x for path, x in ours.items() if not path.startswith("stats/")}
    slots = [slot for path, x in ours.items() for slot in slots_of(path, x.shape, layout.table)]
    groups = groups_of(slots)
    dtypes = {np.dtype(x.dtype) for x in ours.values()}
    if len(dtypes) != 1:
        raise UserError(f"the arrays have the types {', '.join(sorted(map(str, dtypes)))}; expected one type.")
    (dtype,) = dtypes

    def values():
        for group in groups:
            parts = []
            for slot in group.slots:
                x = ours[slot.path] if slot.layer is None else ours[slot.path][slot.layer]
                parts.append(slot.to_theirs(np.asarray(x)))
            yield parts[0] if len(parts) == 1 else np.concatenate(parts, group.slots[0].at.along)
            for _ in group.names[1:]:
                yield np.zeros(group.shape, dtype)
        yield from layout.constants.values()

    folder.mkdir(parents=True, exist_ok=True)
    names = {name: (dtype, group.shape) for group in groups for name in group.names}
    names |= {name: (x.dtype, x.shape) for name, x in layout.constants.items()}
    write_safetensors(folder / "model.safetensors", names, values())
    if not layout.config:
        return folder
    config = {**layout.config, **({"dtype": dtype.name} if "dtype" in layout.config else {})}
    with atomic_write(folder / "config.json") as part:
        part.write_text(json.dumps(config, indent=2) + "\n")
    return folder
