"""What may lie on a disk after a power cut, given what a program asked of it?

A list of operations on files, as a recording makes them, and a disk that keeps of those that were not flushed whatever
it likes: each name or none, each content whole, torn, empty, or as zeros. Only a flush binds it: one of the whole file
system all before it, one of a file its content, one of a folder the names in it.
"""

import random
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from wdyn.store import files


@dataclass(frozen=True)
class Operation:
    """One of write, mkdir, rename, unlink, flush (of all), sync (of a file or folder), or told (a step)."""

    what: str
    path: str = ""
    value: object = None


class Journal:
    """Notes the operations of everything that is written below a folder, while a test runs."""

    def __init__(self, folder, monkeypatch, *, at_once=True):
        self.folder, self.operations = folder, []
        write, mkdir, rename, unlink = files.write, files.os.mkdir, files.os.replace, files.os.unlink

        def noted_write(path, pieces, **options):
            size = write(path, pieces, **options)
            self.note("write", path, Path(path).read_bytes())
            return size

        def noted_rename(path, place):
            rename(path, place)
            self.note("rename", path, self.inside(place))

        def noted(what, inner):
            def call(path, *arguments, **options):
                inner(path, *arguments, **options)
                self.note(what, path)

            return call

        monkeypatch.setattr(files, "write", noted_write)
        monkeypatch.setattr(files.os, "replace", noted_rename)
        monkeypatch.setattr(files.os, "mkdir", noted("mkdir", mkdir))
        monkeypatch.setattr(files.os, "unlink", noted("unlink", unlink))
        monkeypatch.setattr(files, "sync", lambda path: self.note("sync", path))
        monkeypatch.setattr(files, "_sync_file_system", lambda root: at_once and self.note("flush", root))

    def inside(self, path):
        return PurePosixPath(path).relative_to(self.folder).as_posix()

    def note(self, what, path, value=None):
        if PurePosixPath(path).is_relative_to(self.folder):
            self.operations.append(Operation(what, self.inside(path), value))
        return True

    def tell(self, step):
        self.operations.append(Operation("told", value=step))


class Disk:
    """What is surely there after some operations, and what may be."""

    def __init__(self):
        self.files, self.folders = {}, set()  # what is surely there: path to content; paths
        self.told = -1
        self.loose = []  # operations that nothing has flushed
        self.written = set()

    def take(self, operation):
        if operation.what == "told":
            self.told = operation.value
        elif operation.what == "flush":
            self.settle(lambda one: True)
        elif operation.what != "sync":
            self.loose.append(operation)
            self.written |= {operation.path} if operation.what == "write" else set()
        elif operation.path in self.written:  # the content of a file; its name is flushed with its folder
            self.loose = [durable(one) if one.path == operation.path else one for one in self.loose]
        else:
            self.settle(lambda one: parent(named(one)) == operation.path)

    def cut(self, chance=None):
        """Give the disk as it is found if the power goes now; in order, or as `chance` has it."""
        found = Disk()
        found.files, found.folders, found.told = dict(self.files), set(self.folders), self.told
        found.loose = self.loose
        for operation in self.loose:
            found.keep(operation, chance)
        return found

    def settle(self, is_flushed):
        """Bring what is flushed onto the disk, in order."""
        for one in self.loose:
            if is_flushed(one):
                self.apply(one)
        self.loose = [one for one in self.loose if not is_flushed(one)]

    def apply(self, one, torn=None):
        if one.what == "mkdir":
            self.folders.add(one.path)
        elif one.what == "unlink":
            self.files.pop(one.path, None)
        elif one.what == "rename":
            self.files[one.value] = self.content_of(one)
            self.files.pop(one.path, None)
        else:
            self.files[one.path] = one.value if torn is None else torn

    def content_of(self, rename):
        """Content of a renamed file, which may itself be nowhere yet."""
        if rename.path in self.files:
            return self.files[rename.path]
        last = [one for one in self.loose if one.what in ("write", "link") and one.path == rename.path]
        return last[-1].value if last else b""

    def keep(self, one, chance):
        if chance is None:
            self.apply(one)
        elif chance.random() < 0.6:
            torn = one.what == "write" and chance.random() < 0.5
            self.apply(one, torn=broken(one.value, chance) if torn else None)

    def lay_out(self, place):
        """Make the folder as it would be found."""
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for path, content in self.files.items():
            if all(folder in self.folders for folder in above(path)):
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                (place / path).write_bytes(content)


def named(one):
    """The path whose entry in its folder an operation changes."""
    return one.value if one.what == "rename" else one.path


def parent(path):
    return PurePosixPath(path).parent.as_posix()


def above(path):
    return [folder.as_posix() for folder in PurePosixPath(path).parents if folder.as_posix() != "."]


def broken(content, chance):
    """Give what may be left of a content that was never flushed."""
    some = chance.randrange(len(content) + 1)
    return chance.choice([b"", content[:some], bytes(len(content)), content[:some] + bytes(len(content) - some)])


def durable(one):
    """Say of a write that its content is flushed, and its name is not."""
    return Operation("link", one.path, one.value) if one.what == "write" else one


def cuts(operations, *, chance, stride=1):
    """Give the disk as it may be after each `stride`-th operation: once in order, once as it likes."""
    disk, start = Disk(), chance.randrange(stride)
    for number, operation in enumerate(operations):
        disk.take(operation)
        if number % stride == start:
            yield disk.cut()
            yield disk.cut(random.Random(chance.random()))
