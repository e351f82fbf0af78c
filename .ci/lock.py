"""Writes constraints: what pip resolves for each of the Pythons given, as `name==version` lines with markers."""

import pathlib
import subprocess
import sys
import tempfile


def main(pythons):
    """Resolves in a fresh environment for each Python; pins that all share have no marker."""
    pins = {}
    for python in pythons:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([python, "-m", "venv", folder], check=True)
            pip = [str(pathlib.Path(folder, "bin", "python")), "-m", "pip", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "install", "-e", ".[dev]"], check=True)
            # pip itself may differ from machine to machine, and the project is not a pin.
            frozen = subprocess.run([*pip, "freeze", "--exclude-editable"], check=True, capture_output=True, text=True)
        version = subprocess.run(
            [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip
        pins[version] = dict(line.split("==") for line in frozen.stdout.split() if "==" in line)
    versions = sorted(pins, key=lambda version: [int(part) for part in version.split(".")])
    names = sorted({name for found in pins.values() for name in found}, key=str.lower)
    for name in names:
        wanted = {version: pins[version].get(name) for version in versions}
        if len(set(wanted.values())) == 1:
            print(f"{name}=={wanted[versions[0]]}")
            continue
        for number, version in enumerate(versions):
            # The last one holds for newer Pythons too.
            sign = ">=" if number == len(versions) - 1 else "=="
            if wanted[version]:
                print(f'{name}=={wanted[version]} ; python_version {sign} "{version}"')


if __name__ == "__main__":
    main(sys.argv[1:])
