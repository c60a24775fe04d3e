"""Pictures in one folder a class: which are packed, and what is left out and why.

Links to folders are followed, as `torchvision.datasets.ImageFolder` does, each folder once. Hidden files are left out:
they are what editors, finders and file systems leave behind (`.DS_Store`, `._a.png`).
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tamis.store.errors import ShardError
from tamis.store.shards.images import EITHER, IMAGES, SAME
from tamis.store.shards.skipped import Skipped, summed

_OWN = "__MACOSX"  # where macOS puts hidden files into archives


@dataclass(frozen=True)
class Pictures:
    """The images of a folder, by class."""

    root: Path
    files: tuple[tuple[Path, ...], ...]  # of each class, in order
    classes: tuple[str, ...]
    skipped: tuple[Skipped, ...]

    @property
    def kind(self) -> str:
        """The suffix under which all are packed; where there are several, all of them ("jpg;png")."""
        kinds = {_suffix(path) for group in self.files for path in group}
        if len(kinds) > 1:
            kinds = {SAME.get(kind, kind) for kind in kinds}
        return EITHER.join(kind for kind in IMAGES if kind in kinds)

    def packed_as(self, file: Path) -> str:
        """The suffix under which a file is packed."""
        suffix = _suffix(file)
        return suffix if suffix in self.kind.split(EITHER) else SAME[suffix]

    @property
    def samples(self) -> int:
        return sum(map(len, self.files))

    @property
    def bytes(self) -> int:
        """Of all images together, as the file system has them."""
        return sum(path.stat().st_size for group in self.files for path in group)


def find_pictures(folder: str | os.PathLike[str]) -> Pictures:
    """Look for images in one folder a class.

    Raises:
        ShardError: there are none, or a class has only files that cannot be packed.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise ShardError(f"{root} is not a folder: expected one with a subfolder of images per class.")
    skipped: list[Skipped] = []
    classes = sorted(_classes(root, skipped))
    files = [tuple(sorted(_images(root, root / c, skipped))) for c in classes]
    if not any(files):
        left = f" What is there: {'; '.join(map(str, summed(skipped)))}." if skipped else ""
        raise ShardError(
            f"{root} holds no images (.{', .'.join(IMAGES)}) in subfolders: expected one subfolder per class.{left}"
        )
    _check_empty(root, classes, files, skipped)
    return Pictures(root, tuple(files), tuple(classes), summed(skipped))


def path_keys(pictures: Pictures) -> dict[Path, str]:
    """A key for each file that keeps its path: "cat/left.2.jpg" is "cat/left_2".

    Where files of one folder differ in nothing but their suffix, their keys end in it: "cat/a_jpg" and "cat/a_png".
    """
    files = [path for group in pictures.files for path in group]
    plain = {path: _key(pictures.root, path) for path in files}
    times = Counter(plain.values())
    return {path: key if times[key] == 1 else f"{key}_{_suffix(path)}" for path, key in plain.items()}


def _key(root: Path, path: Path) -> str:
    return path.relative_to(root).with_name(path.stem.replace(".", "_")).as_posix()


def _suffix(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")


def _classes(root: Path, skipped: list[Skipped]) -> Iterator[str]:
    for path in sorted(root.iterdir()):
        if _hidden(path.name):
            skipped.append(Skipped("hidden files and folders", 1, (path.name,)))
        elif not path.is_dir():
            skipped.append(Skipped("files beside the classes' folders", 1, (path.name,)))
        else:
            yield path.name


def _images(root: Path, folder: Path, skipped: list[Skipped]) -> Iterator[Path]:
    for path in _walk(root, folder, skipped):
        name = str(path.relative_to(root))
        if _hidden(path.name):
            skipped.append(Skipped("hidden files and folders", 1, (name,)))
        elif path.suffix.lower().removeprefix(".") not in IMAGES:
            suffix = path.suffix.lower() or "no suffix"
            skipped.append(Skipped(f"files of {suffix}, which is no image that can be packed", 1, (name,)))
        elif not path.is_file():
            skipped.append(Skipped("links that lead nowhere, pipes and devices", 1, (name,)))
        else:
            yield path


def _walk(root: Path, top: Path, skipped: list[Skipped]) -> Iterator[Path]:
    """Every file below a folder, through links to folders too, each folder once."""
    seen: set[tuple[int, int]] = set()
    for at, folders, names in os.walk(top, followlinks=True):
        stat = os.stat(at)
        if (stat.st_dev, stat.st_ino) in seen:
            folders.clear()
            skipped.append(Skipped("links back to a folder", 1, (str(Path(at).relative_to(root)),)))
            continue
        seen.add((stat.st_dev, stat.st_ino))
        for hidden in filter(_hidden, folders):
            skipped.append(Skipped("hidden files and folders", 1, (str((Path(at) / hidden).relative_to(root)),)))
        folders[:] = sorted(name for name in folders if not _hidden(name))
        yield from (Path(at) / name for name in names)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == _OWN


def _check_empty(root: Path, classes: list[str], files: Iterable[tuple[Path, ...]], skipped: list[Skipped]) -> None:
    """A class without an image is said; one whose files all were left out is refused."""
    for name, group in zip(classes, files, strict=True):
        if group:
            continue
        left = [s for s in skipped if s.why.startswith("files of") and s.some[0].startswith(f"{name}{os.sep}")]
        if left:
            raise ShardError(
                f"{root / name} has no image that can be packed (.{', .'.join(IMAGES)}): "
                f"{'; '.join(map(str, summed(left)))}. Convert them, or remove the folder."
            )
        skipped.append(Skipped("folders without an image, which are classes without a sample", 1, (name,)))
