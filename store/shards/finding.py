"""Finding shards by patterns, with what each looks like from outside.

What: `Pattern` is a path or URL, one with *, ? or [...], or a folder or prefix, of which every tar file counts.
How: on an object store a listing tells sizes and times, so that ten thousand shards take ten requests; in a folder
each file is asked for, several at once. A pattern also tells which addresses it would have found.
Cost: local, some 10 µs a shard; on an object store a request for each thousand.
"""

import fnmatch
import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tamis.store.errors import ShardError
from tamis.store.roots import requests
from tamis.store.roots.urls import is_remote, split_url
from tamis.store.shards.indexing import in_threads
from tamis.store.shards.shards import Look, look, look_of, shard_uri

_SPECIAL = "*?["
_TAR = ".tar"
_AT_ONCE = 200  # files that a thread looks at before it takes more


@dataclass(frozen=True)
class Pattern:
    """Which shards are meant.

    Attributes:
        uri: an absolute path or a URL, perhaps with *, ? and [...]; as in a shell, * stops at a slash.
        deep: every tar file below `uri` counts.
    """

    uri: str
    deep: bool = False

    @classmethod
    def of(cls, text: str) -> "Pattern":
        """What a person writes: a path, URL or pattern, a folder, or a prefix that ends in a slash.

        Raises:
            ShardError: it is empty, or of a scheme that is not read.
        """
        if not text.strip():
            raise ShardError("An empty pattern finds no shard: give a path or URL, such as 'data/train-*.tar'.")
        uri = shard_uri(text)
        if is_remote(uri):
            whole = not any(c in uri for c in _SPECIAL) and not uri.endswith(_TAR)
            return cls(f"{uri.rstrip('/')}/" if whole else uri, deep=whole)
        return cls(f"{glob.escape(uri)}/*{_TAR}" if os.path.isdir(uri) else uri)

    def covers(self, uri: str) -> bool:
        """Whether it would find a shard there."""
        if self.deep:
            return uri.startswith(self.uri) and uri.endswith(_TAR)
        return uri.count("/") == self.uri.count("/") and (uri == self.uri or fnmatch.fnmatchcase(uri, self.uri))

    def find(self, options: Mapping[str, str]) -> dict[str, Look]:
        """What is there, by name.

        Raises:
            ShardError: nothing is, or something is no file.
        """
        found = self._remote(options) if is_remote(self.uri) else self._local(options)
        if not found:
            raise ShardError(
                f"{self.uri!r} matches no {'tar ' if self.deep else ''}file: correct the pattern, or check that the "
                "medium is there."
            )
        return dict(sorted(found.items()))

    def _local(self, options: Mapping[str, str]) -> dict[str, Look]:
        special = any(c in self.uri for c in _SPECIAL)
        names = glob.glob(self.uri) if special else [self.uri] if os.path.exists(self.uri) else []
        some = [names[at : at + _AT_ONCE] for at in range(0, len(names), _AT_ONCE)]
        seen = in_threads(lambda part: [look(name, options) for name in part], some, None)
        return dict(zip(names, (one for part in seen for one in part), strict=True))

    def _remote(self, options: Mapping[str, str]) -> dict[str, Look]:
        bucket, path = split_url(self.uri)
        fixed = path[: min((path.index(c) for c in _SPECIAL if c in path), default=len(path))]
        listed = requests.names(bucket, (path if self.deep else fixed.rpartition("/")[0]).strip("/") or None, options)
        found = {f"{bucket}/{one['path']}": look_of(one) for one in listed}
        return {uri: seen for uri, seen in found.items() if self.covers(uri)}


def find_all(patterns: Sequence[Pattern], options: Mapping[str, str]) -> dict[str, Look]:
    """What several patterns find: each shard once, by pattern and by name.

    Raises:
        ShardError: one of them finds nothing.
    """
    found: dict[str, Look] = {}
    for pattern in patterns:
        found |= {uri: seen for uri, seen in pattern.find(options).items() if uri not in found}
    return found
