"""The content of a public checkpoint, and the lines with which an experiment starts from it."""

import math

from research.errors import UserError
from research.weights.folders import find_source, read_checkpoint, read_config
from research.weights.options import reader_of


def show(source) -> str:
    """Return the size and architecture of a checkpoint, the arguments of our model, and lines for an experiment.

    `source` is as for `weights`. A file has no config.json; its architecture is not known. Raises UserError for an
    architecture or an option that no file of `research.weights` reads, and the errors of `read_checkpoint`.
    """
    arrays = read_checkpoint(source)
    numbers = sum(math.prod(x.shape) for x in arrays.values())
    size = sum(math.prod(x.shape) * x.dtype.itemsize for x in arrays.values())
    kinds = ", ".join(sorted({str(x.dtype) for x in arrays.values()}))
    first = f"{source}: {len(arrays):,} arrays, {numbers:,} numbers, {kinds}, {size / 2**20:,.1f} MiB"
    if find_source(source).is_file():
        return f"{first}\nA file does not state its architecture; give the folder with its config.json."
    config = read_config(source)
    name = config.get("model_type", config.get("architecture"))
    if name is None:
        raise UserError(f"{source}/config.json has neither model_type (transformers) nor architecture (timm).")
    module = reader_of(name)
    file, library = module.__name__.split(".")[-1], "transformers" if "model_type" in config else "timm"
    layout = name if callable(getattr(module, name, None)) else library
    sizes, model = module.arguments(config), module.MODEL
    values = ", ".join(f"{key}={getattr(value, '__name__', repr(value))}" for key, value in sizes.items())
    return f"""{first}
architecture: {name} of {library}
{model}({values})

    from research.models.{file} import {model}
    from research.weights import {file}
    from research.weights.folders import read_config
    from research.weights.load import weights

    sizes = {file}.arguments(read_config({str(source)!r}))
    model = from_nnx(lambda rngs: {model}(**sizes, rngs=rngs))
    Experiment(init_from=weights({str(source)!r}, {file}.{layout}(**sizes)), ...)"""
