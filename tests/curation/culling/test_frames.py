"""De-duplication in time, the search for a resolution, and culling by probabilities: by hand."""

import numpy as np
import pytest

from tamis.curation import CurationError
from tamis.curation.culling.confidence import confidence_of
from tamis.curation.culling.duplicates import difference_hashes, distinct_in_time
from tamis.curation.culling.probabilities import teacher_cross_entropies, top_confidence_losses
from tamis.curation.culling.resolution import smallest_scale


def test_a_hash_is_where_it_gets_brighter() -> None:
    """Brighter from left to right: all 64 bits; the mirror image: none; one step in the middle: bit 4 of each row."""
    rising = np.tile(np.arange(27, dtype=np.uint8) * 9, (16, 1))
    step = np.zeros((8, 9), np.uint8)
    step[:, 4:] = 200
    assert difference_hashes(rising[None]).tolist() == [2**64 - 1]
    assert difference_hashes(rising[None, :, ::-1]).tolist() == [0]
    assert difference_hashes(step[None]).tolist() == [int.from_bytes(bytes([0b00010000] * 8))]


def test_a_flat_image_has_no_bits_whatever_its_size() -> None:
    """Cells of 20 columns are 2 or 3 wide: their means are equal."""
    assert difference_hashes(np.full((2, 11, 20), 77, np.uint8)).tolist() == [0, 0]


def test_the_first_of_what_looks_alike_is_kept() -> None:
    """Bits apart from the kept one: 1, 2, 3 (kept at a threshold of 2), then 1 from that."""
    hashes = np.array([0, 0b1, 0b11, 0b111, 0b1111], np.uint64)
    assert distinct_in_time(hashes, threshold=2).tolist() == [0, 3]
    assert distinct_in_time(hashes, threshold=0).tolist() == [0, 1, 2, 3, 4]
    assert distinct_in_time(np.zeros(3, np.uint64), threshold=0).tolist() == [0]
    assert distinct_in_time(hashes, threshold=2, cameras_N=np.array(list("abaab"))).tolist() == [0, 1, 3, 4]


def test_bad_images_and_hashes_are_refused() -> None:
    with pytest.raises(CurationError, match="expected grey uint8"):
        difference_hashes(np.zeros((1, 7, 9), np.uint8))
    with pytest.raises(CurationError, match="expected uint64"):
        distinct_in_time(np.zeros(3, np.int64))
    with pytest.raises(CurationError, match="expected 0 to 63"):
        distinct_in_time(np.zeros(3, np.uint64), threshold=64)
    with pytest.raises(CurationError, match="one for each of 3 frames"):
        distinct_in_time(np.zeros(3, np.uint64), cameras_N=np.zeros(2))


LOSSES = {1.0: [2.0, 2.0, np.nan], 0.75: [2.0, 2.5, 2.0], 0.5: [2.5, 2.5, 9.0], 0.25: [2.0, 2.0, 2.0]}


def losses_at(scale: float) -> np.ndarray:
    return np.array(LOSSES[scale])


@pytest.mark.parametrize(("bound", "scale", "tried"), [(0.0, 1.0, 2), (0.25, 0.75, 3), (0.5, 0.25, 4)])
def test_the_smallest_scale_before_it_gets_worse(bound: float, scale: float, tried: int) -> None:
    """Means of the first two frames: 2, 2.25, 2.5, 2. What comes below a failure is not tried."""
    found = smallest_scale([0.25, 1.0, 0.5, 0.75], losses_at, bound=bound)
    assert found.scale == scale
    assert found.losses == dict(list({1.0: 2.0, 0.75: 2.25, 0.5: 2.5, 0.25: 2.0}.items())[:tried])
    assert found.frames == 2


def test_bad_searches_are_refused() -> None:
    for scales, bound, words in (
        ([], 0, "scales"), ([1, 1], 0, "scales"), ([0, 1], 0, "scales"), ([1], -1, "bound"),
    ):  # fmt: skip
        with pytest.raises(CurationError, match=words):
            smallest_scale(scales, losses_at, bound=bound)
    with pytest.raises(CurationError, match="no frame has a precision loss at scale"):
        smallest_scale([1, 0.5], lambda scale: np.array([scale, np.nan] if scale == 1 else [np.nan, 1]), bound=1)


def test_classification_has_the_same_two_stages() -> None:
    student = np.array([[0.8, 0.1, 0.1], [0.5, 0.5, 0.0], [np.nan] * 3])
    teacher = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(top_confidence_losses(student)[:2], confidence_of(np.array([0.8, 0.5])))
    np.testing.assert_allclose(
        teacher_cross_entropies(teacher, student), [-np.log(0.8), -np.log(1e-12), np.nan], atol=1e-12
    )
    even = np.full((1, 4), 0.25)
    assert teacher_cross_entropies(even, even)[0] == pytest.approx(np.log(4))


def test_what_is_no_distribution_is_refused() -> None:
    good = np.array([[0.5, 0.5]])
    with pytest.raises(CurationError, match=r"1 of 1 rows of the student are no distributions \(the first: 0\)"):
        top_confidence_losses(np.array([[2.0, 1.0]]))
    with pytest.raises(CurationError, match="the same classes"):
        teacher_cross_entropies(good, np.array([[0.2, 0.3, 0.5]]))
    with pytest.raises(CurationError, match="C at least 2"):
        top_confidence_losses(np.array([0.5]))
