"""Whether packages are what was published, and whether all weights that something names are there."""

from collections.abc import Iterator

from tamis.store.errors import TamisError
from tamis.store.packages.catalog import Catalog
from tamis.store.packages.records import package_key

Checked = tuple[str, str | None]  # the kind of thing, and what is wrong with it


def checked(packages: Catalog) -> Iterator[Checked]:
    """Look at every base, candidate and package; the bytes of blobs are looked at elsewhere."""
    for base in packages.bases.all():
        yield "base models", _lost(packages, base.blob, f"Base model {base.model} ({base.key[:12]})")
    for candidate in packages.candidates():
        yield "candidates", _lost(packages, candidate.blob, f"Candidate {candidate.key[:12]}")
    for ref in packages.refs():
        try:
            package = packages.get(ref)
            good = package_key(package, package.candidates) == package.key
            yield (
                "packages",
                None if good else f"Package {ref} is not what was published: restore tables/packages from a copy.",
            )
        except TamisError as error:
            yield "packages", str(error)


def _lost(packages: Catalog, digest: str, shown: str) -> str | None:
    if packages.blobs.exists(digest):
        return None
    return (
        f"{shown} has lost its weights (blob {digest[:12]}): restore the file from a copy, or import the package again."
    )
