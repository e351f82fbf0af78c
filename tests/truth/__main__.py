"""Regenerate the reference values and compare them with those stored; see the docstring of the package."""

import argparse
import importlib
import json
import sys
from importlib.metadata import version

import numpy as np

from tests.truth import FOLDER, load

RTOL, ATOL = 1e-4, 1e-6  # of f32 kernels on another processor


def main() -> int:
    names = sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))
    parser = argparse.ArgumentParser(prog="python -m tests.truth", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"generators: {', '.join(names)} (default: all)")
    parser.add_argument("--packages", action="store_true", help="print the requirements, and do nothing else")
    arguments = parser.parse_args()
    chosen = arguments.names or names
    if wrong := set(chosen) - set(names):
        parser.error(f"no generator {sorted(wrong)[0]!r}; there are {', '.join(names)}")
    modules = {name: importlib.import_module(f"tests.truth.{name}") for name in chosen}
    if arguments.packages:
        print("\n".join(sorted({package for module in modules.values() for package in module.PACKAGES})))
        return 0
    return max(_compared(name, module) for name, module in modules.items())


def _compared(name, module) -> int:
    values = {key: np.asarray(value) for key, value in module.values().items()}
    versions = {package: version(package) for package in (p.split("==")[0] for p in module.PACKAGES)}
    file = FOLDER / f"{name}.npz"
    if not file.exists():
        np.savez_compressed(file, versions=json.dumps(versions), **values)
        print(f"{name}: written, {len(values)} arrays, {file.stat().st_size / 1e3:.0f} kB")
        return 0
    stored = load(name)
    differences = []
    for key in sorted((values.keys() | stored.keys()) - {"versions"}):
        if key not in values or key not in stored:
            differences.append(f"{key} is {'missing' if key not in values else 'new'}")
        elif values[key].shape != stored[key].shape:
            differences.append(f"{key} has the shape {values[key].shape}; stored is {stored[key].shape}")
        elif not np.allclose(values[key], stored[key], rtol=RTOL, atol=ATOL, equal_nan=True):
            differences.append(f"{key} differs by {np.abs(values[key] - stored[key]).max()}")
    print(f"{name}: {len(values)} arrays, {'; '.join(differences) or 'as stored'} (now {versions})")
    return bool(differences)


if __name__ == "__main__":
    sys.exit(main())
