"""Packages as folders: `export` writes one, `import_` takes one over, whole or not at all.

How: a folder is written under another name and gets its own when it is complete. Importing reads the manifest, then
every file that it names, and holds each against the size and the sha256 that the manifest says; only then are weights
stored, and the package, which makes all of it visible, is published last. Files are opened by their plain names in that
one folder, and never through a link.
Cost: of an import, every file is read twice and one is in memory at a time.
"""

import contextlib
import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tamis.store.errors import PackageError
from tamis.store.keys import check_name
from tamis.store.packages.catalog import Catalog, Published
from tamis.store.packages.manifest import MOST_BYTES, Manifest, document, file_of, parse
from tamis.store.packages.records import NewPackage, Package
from tamis.store.packages.weights import shapes_of
from tamis.store.roots.regular import not_regular
from tamis.store.roots.roots import reporting_full

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Exported:
    """A folder with a package.

    Attributes:
        package: name@version.
        folder: where it is.
        files: how many, the manifest included.
        bytes: of all of them.
    """

    package: str
    folder: str
    files: int
    bytes: int


class Packages(Catalog):
    """The packages of one store, also to and from folders."""

    def export(self, ref: str, folder: str | os.PathLike[str], *, with_base: bool = True) -> Exported:
        """Write a package into a new folder: manifest.json, base.safetensors, and a file for each candidate.

        Args:
            ref: the package.
            folder: that does not exist, or is empty.
            with_base: also write the base's weights; without them, only a store that has the base can import it.

        Raises:
            PackageError: the folder is there and has something in it.
        """
        return export(self, ref, folder, with_base=with_base)

    def import_(self, folder: str | os.PathLike[str], *, name: str | None = None) -> Published:
        """Publish the package of a folder, under its own name or another: the next version, unless the name has it.

        Args:
            folder: that `export` wrote.
            name: to publish it under; None for its own.

        Raises:
            PackageError: a file is altered, truncated, missing, too large or a link, or the manifest is not what it
                should be. Nothing of the package is in the store then.
        """
        return import_(self, folder, name=name)


def export(packages: Catalog, ref: str, folder: str | os.PathLike[str], *, with_base: bool = True) -> Exported:
    """As `Packages.export`."""
    package = packages.get(ref)
    base = packages.bases.get(package.base)
    target = _new_folder(folder)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        with reporting_full(str(target)):
            part.mkdir(parents=True)
            if with_base:
                (part / "base.safetensors").write_bytes(packages.bases.weights(base))
            for candidate in package.candidates:
                (part / file_of(candidate)).write_bytes(packages.weights(candidate))
            (part / MANIFEST).write_bytes(document(package, base, with_base=with_base))
            sizes = [path.stat().st_size for path in part.iterdir()]
            _take_name(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Exported(package.ref, str(target), len(sizes), sum(sizes))


def import_(packages: Catalog, folder: str | os.PathLike[str], *, name: str | None = None) -> Published:
    """As `Packages.import_`."""
    with _opened(folder) as at:
        manifest = parse(_read(at, folder, MANIFEST, MOST_BYTES), f"{folder}/{MANIFEST}")
        made = check_name(manifest.package.name if name is None else name, "package")
        if manifest.base_file is None and packages.bases.find(manifest.base.key) is None:
            raise PackageError(
                f"{folder} has no weights of its base model {manifest.base.model} ({manifest.base.key[:12]}), and the "
                "store does not have it: export the package with its base."
            )
        for file, size, digest in _files(manifest):  # all of them, before anything is kept
            shapes_of(_verified(at, folder, file, size, digest), f"{folder}/{file}")
        for file, size, digest in _files(manifest):
            packages.blobs.put(_verified(at, folder, file, size, digest))
    packages.bases.keep(manifest.base)
    package = manifest.package
    kept = [packages.keep_candidate(replace(one, pareto=False), foreign=True) for one in package.candidates]
    lineage = package.lineage if "imported" in package.lineage else package.lineage | {"imported": _origin(package)}
    fields: dict[str, Any] = {field: getattr(package, field) for field in NewPackage.__dataclass_fields__}
    return packages.publish(replace(NewPackage(**fields), name=made, lineage=lineage), kept)


def _origin(package: Package) -> dict[str, object]:
    created = None if package.created is None else package.created.isoformat()
    return {"package": package.ref, "created": created}


def _files(manifest: Manifest) -> Iterator[tuple[str, int, str]]:
    """(name, bytes, sha256) of every file with weights."""
    if manifest.base_file is not None:
        yield manifest.base_file, manifest.base.bytes, manifest.base.blob
    for one in manifest.package.candidates:
        yield manifest.files[one.content], one.bytes, one.blob


def _verified(at: int, folder: str | os.PathLike[str], name: str, size: int, digest: str) -> bytes:
    data = _read(at, folder, name, size)
    if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
        said = f"{len(data):,} of {size:,} bytes" if len(data) != size else "bytes that were changed"
        raise PackageError(f"{folder}/{name} has {said}: it is not the file that was exported. Export it again.")
    return data


def _read(at: int, folder: str | os.PathLike[str], name: str, most: int) -> bytes:
    """A file of the folder, which is a plain file of at most so many bytes, and no link."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=at)
    except FileNotFoundError as error:
        raise PackageError(f"{folder}/{name} is missing: give the whole folder that was exported.") from error
    except OSError as error:
        said = "is a link" if _is_link(at, name) else f"cannot be read ({error.strerror})"
        raise PackageError(f"{folder}/{name} {said}: expected the file itself.") from error
    try:
        seen = os.fstat(file)
        odd = not_regular(seen.st_mode)
        if odd is not None:
            raise PackageError(f"{folder}/{name}: {odd[0].lower()}{odd[1:]}; expected a file.")
        if seen.st_size > most:
            raise PackageError(f"{folder}/{name} has {seen.st_size:,} bytes: expected at most {most:,}.")
        with os.fdopen(file, "rb", closefd=False) as opened:
            return opened.read(most + 1)
    finally:
        os.close(file)


def _is_link(at: int, name: str) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISLNK(os.lstat(name, dir_fd=at).st_mode)
    return False


@contextlib.contextmanager
def _opened(folder: str | os.PathLike[str]) -> Generator[int]:
    try:
        at = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    except OSError as error:
        raise PackageError(
            f"{os.fspath(folder)} cannot be read ({error.strerror}): expected the folder that `tamis package export` "
            "wrote."
        ) from error
    try:
        yield at
    finally:
        os.close(at)


def _new_folder(folder: str | os.PathLike[str]) -> Path:
    text = os.fspath(folder)
    if "://" in text:
        raise PackageError(f"{text} is a URL: packages are exported to folders. Give a folder, and copy that.")
    target = Path(text).expanduser().resolve()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise PackageError(f"{target} exists and is not an empty folder: give a new one.")
    return target


def _take_name(part: Path, target: Path) -> None:
    try:
        os.replace(part, target)
    except OSError as error:
        if target.exists():  # somebody was faster
            raise PackageError(f"{target} exists and is not an empty folder: give a new one.") from error
        raise
