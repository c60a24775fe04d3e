"""Parts of passes: arrays as they were, under any NumPy, and no pickles."""

import io
import zipfile

import numpy as np
import pytest

from tamis.training.signals.parts import pack_part, unpack_part


def test_arrays_come_back_as_they_were_and_no_others() -> None:
    given = {"at": np.arange(3), "errors": np.array(["", "é"]), "corners": np.zeros((0, 4), np.float32)}
    found = unpack_part(pack_part(given))
    assert found is not None
    assert found.keys() == given.keys()
    assert all(found[name].dtype == one.dtype and np.array_equal(found[name], one) for name, one in given.items())


def test_an_argument_that_an_old_numpy_kept_as_an_array_is_left_out() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in (("at", np.arange(2)), ("allow_pickle", np.array(False))):
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array)
    found = unpack_part(file.getvalue())
    assert found is not None
    assert [*found] == ["at"]


def test_objects_are_refused_and_damage_is_nothing() -> None:
    with pytest.raises(TypeError, match="errors hold Python objects"):
        pack_part({"errors": np.array([None, "a"], dtype=object)})
    assert unpack_part(pack_part({"at": np.arange(99)})[:-30]) is None
