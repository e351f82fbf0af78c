"""The content of a config.json that several architectures share: its reader, checks of options, and classes."""

import fnmatch
import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from research.errors import UserError, nearest


def readers() -> dict[str, ModuleType]:
    """Return {architecture: the module of this subpackage that reads it}: those in ARCHITECTURES of each module.

    An architecture is the `model_type` of transformers, or a name or pattern of timm's.
    """
    package = importlib.import_module("research.weights")
    modules = [importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)]
    return {name: module for module in modules for name in getattr(module, "ARCHITECTURES", ())}


def reader_of(architecture: str) -> ModuleType:
    """Return the module that reads an architecture. Raises UserError with the nearest name if there is none."""
    known = readers()
    for name, module in known.items():
        if fnmatch.fnmatchcase(str(architecture), name):
            return module
    raise UserError(
        f"the architecture {architecture!r} is not known.{nearest(architecture, known)} Known: {', '.join(known)}."
    )


def check_options(config: Mapping[str, Any], *, model_type: str | tuple[str, ...], **supported: tuple):
    """Check options of a config.json that change the numbers. `supported` is {option: its possible values}.

    The first value is the default, which an absent option has. Raises UserError for another architecture, and for an
    option whose value our model does not support.
    """
    types = (model_type,) if isinstance(model_type, str) else model_type
    given = config.get("model_type", config.get("architecture"))
    if given not in types:
        expected = " or ".join(map(repr, types))
        reader = reader_of(given).__name__  # or an error with the nearest name
        raise UserError(f"the config is of the architecture {given!r}, which {reader} reads; expected {expected}.")
    for name, values in supported.items():
        if name in config and config[name] not in values:
            raise UserError(
                f"the option {name}={config[name]!r} of the config is not supported; expected "
                f"{' or '.join(map(repr, values))}."
            )


def class_names(num_classes: int) -> dict[str, Any]:
    """Return the entries of a config that state the number of classes to transformers."""
    names = {i: f"LABEL_{i}" for i in range(num_classes)}
    return {"id2label": {str(i): name for i, name in names.items()}, "label2id": {name: i for i, name in names.items()}}


def num_classes_of(config: Mapping[str, Any]) -> int:
    """Return the number of classes in a config of transformers, by default 2."""
    return len(config["id2label"]) if config.get("id2label") else config.get("num_labels", 2)


def timm_entries(num_classes: int, size: int) -> dict[str, Any]:
    """Return the entries of a config that timm needs besides the architecture, for images of `size` x `size` pixels.

    They do not state the mean and the deviation of pixels, which belong to the experiment.
    """
    return {"num_classes": num_classes, "pretrained_cfg": {"input_size": [3, size, size], "num_classes": num_classes}}
