"""Tar headers made by hand are those that `tarfile` makes."""

import io
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from tamis.training.export.tar import BLOCK, END, header, padding

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=130)
SIZES = st.integers(0, 8**11 + 5)


@given(NAMES.filter(lambda name: not name.endswith("/")), SIZES)
def test_headers_are_those_of_tarfile(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    fits = len(name.encode()) <= 100 and size < 8**11
    form = tarfile.USTAR_FORMAT if fits else tarfile.GNU_FORMAT
    assert header(name.encode(), size) == info.tobuf(form, "utf-8", "surrogateescape")


@given(st.lists(st.tuples(NAMES.filter(lambda name: not name.endswith("/")), st.binary(max_size=1500)), max_size=4))
def test_an_archive_is_read_back(members: list[tuple[str, bytes]]) -> None:
    pieces = [piece for name, data in members for piece in (header(name.encode(), len(data)), data, padding(len(data)))]
    archive = b"".join(pieces) + END
    assert len(archive) % BLOCK == 0
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        read = [(m.name, (tar.extractfile(m) or io.BytesIO()).read()) for m in tar]
    assert read == members
