"""What a power cut leaves of a folder: a model of a disk that keeps only what was synced, and any part of the rest.

The model knows each `os.fsync`: of a file, it keeps the bytes; of a folder, the names. At a cut it builds a folder from
the synced state and the current one. A name that was not synced exists or not, a file that was not synced is empty,
torn or whole, and a deleted file may be back. Syncs in C++ are not seen: the product must sync what it relies on.

It promises as little as POSIX: ext4, XFS and btrfs also keep the names of the folders above a synced file.
"""

import contextlib
import os
import stat
import sys
import threading

_ACTIVE = None  # the disk that observes; an audit hook cannot be removed


class Disk:
    """Observes one folder, as a context manager. `on_event()` is called before each change of the folder."""

    def __init__(self, root, *, on_event):
        self.root = os.path.realpath(root)
        self._on_event = on_event
        self._lock, self._fsync = threading.RLock(), os.fsync
        self._busy = False
        self._bytes, self._names, self._pins = {}, {}, []  # by inode; {name: (inode, is a folder)}

    def __enter__(self):
        global _ACTIVE
        _install_hook()
        self._sync_names(self.root)
        os.fsync, _ACTIVE = self.fsync, self
        return self

    def __exit__(self, *_):
        global _ACTIVE
        os.fsync, _ACTIVE = self._fsync, None
        for pin in self._pins:
            os.close(pin)

    def fsync(self, file):
        """Sync a file or folder, and note what is now safe."""
        self._fsync(file)
        descriptor = file if isinstance(file, int) else file.fileno()
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if not _is_below(path, self.root):
            return
        self.event()
        with self._lock:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                self._sync_names(path)
            else:
                self._pin(path)
                with open(path, "rb") as content:
                    self._bytes[os.fstat(descriptor).st_ino] = content.read()

    def event(self):
        """Call `on_event`, once at a time and not for what it does itself."""
        with self._lock:
            if not self._busy:
                self._busy = True
                try:
                    self._on_event()
                finally:
                    self._busy = False

    def _sync_names(self, path):
        self._pin(path)
        entries = {entry.name: (entry.inode(), entry.is_dir()) for entry in os.scandir(path)}
        for name in entries:
            self._pin(os.path.join(path, name))
        self._names[os.stat(path).st_ino] = entries

    def _pin(self, path):
        """Keep the inode, so that its number is not used again."""
        with contextlib.suppress(FileNotFoundError):
            self._pins.append(os.open(path, os.O_PATH | os.O_NOFOLLOW))

    def cut(self, target, rng):
        """Build in the folder `target` what a power cut leaves now."""
        with self._lock:
            now = {os.stat(self.root).st_ino: self.root}
            for folder, folders, files in os.walk(self.root):
                for name in (*folders, *files):
                    with contextlib.suppress(FileNotFoundError):
                        now[os.stat(os.path.join(folder, name)).st_ino] = os.path.join(folder, name)
            kept = rng.choice([0.0, 0.5, 1.0]), rng.choice([0.0, 0.5, 1.0])
            self._build(os.stat(self.root).st_ino, target, now, rng, kept)

    def _build(self, inode, target, now, rng, kept):
        """Build one folder. `kept` are the probabilities that names, and contents, reached the disk unsynced."""
        os.makedirs(target)
        current = {}
        if inode in now:
            with contextlib.suppress(FileNotFoundError), os.scandir(now[inode]) as entries:
                current = {entry.name: (entry.inode(), entry.is_dir()) for entry in entries}
        synced = self._names.get(inode, {})
        for name in sorted({**synced, **current}):
            entry = (current if rng.random() < kept[0] else synced).get(name)
            if entry is None:
                continue
            child, is_folder = entry
            path = os.path.join(target, name)
            if is_folder:
                self._build(child, path, now, rng, kept)
            else:
                with open(path, "wb") as file:
                    file.write(self._content(child, now, rng, kept))

    def _content(self, inode, now, rng, kept):
        synced, current = self._bytes.get(inode, b""), None
        if inode in now:
            with contextlib.suppress(FileNotFoundError), open(now[inode], "rb") as file:
                current = file.read()
        if current is None or synced == current:
            return synced
        if rng.random() < kept[1]:
            return current
        # What is appended arrives in part, or as zeros.
        safe = len(synced) if current.startswith(synced) else 0
        torn = rng.randrange(safe, len(current) + 1)
        zeros = bytes(len(current) - torn) if rng.random() < 0.3 else b""
        return rng.choice([synced, current[:torn] + zeros])


def _is_below(path, root):
    return os.path.realpath(path).startswith(root + os.sep) or path == root


def _hook(event, arguments):
    if _ACTIVE is None or event not in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"):
        return
    path = arguments[0]
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
        return
    if isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(_ACTIVE.root):
        _ACTIVE.event()


_install_hook_once = []


def _install_hook():
    if not _install_hook_once:
        sys.addaudithook(_hook)
        _install_hook_once.append(True)
