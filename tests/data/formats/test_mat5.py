"""The reader of MATLAB files gives what SciPy wrote, and one error for anything else."""

import io
import struct

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pp_jax.data.formats import mat5

TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


def saved(compress=False, **variables):
    file = io.BytesIO()
    scipy.io.savemat(file, variables, do_compression=compress)
    return file.getvalue()


@given(
    st.sampled_from(TYPES).flatmap(
        lambda kind: arrays(kind, st.lists(st.integers(0, 4), min_size=2, max_size=4).map(tuple))
    ),
    st.booleans(),
)
def test_arrays_are_read_as_scipy_wrote_them(array, compress):
    found = mat5.arrays(saved(compress, other="text", X=array, y=np.ones((1, 1))), ("X",))
    assert list(found) == ["X"]
    assert found["X"].dtype == array.dtype
    np.testing.assert_array_equal(found["X"], array)


def test_what_is_no_real_array_of_numbers_is_passed_over():
    data = saved(X=np.array([{"a": 1}, "b"], object), y="text", z=np.array([1j]))
    assert mat5.arrays(data, ("X", "y", "z")) == {}


def test_numbers_stored_in_a_smaller_type_get_the_type_of_their_class():
    # MATLAB stores doubles that are small whole numbers as bytes.
    whole = saved(y=np.array([[7.0]]))
    small = whole[:-16] + struct.pack("<II", 1 << 16 | 2, 7)
    small = small[:132] + struct.pack("<I", len(small) - 136) + small[136:]
    assert mat5.arrays(small, ("y",)) == {"y": np.array([[7.0]])}


@pytest.mark.parametrize("compress", [False, True])
def test_a_file_cut_anywhere_is_an_error_or_lacks_its_last_arrays(compress):
    whole = saved(compress, X=np.arange(24, dtype=np.uint8).reshape(2, 3, 4), y=np.ones((2, 1)))
    for length in range(len(whole)):
        try:
            found = mat5.arrays(whole[:length], ("X", "y"))
        except ValueError:
            continue
        assert len(found) < 2


@pytest.mark.parametrize("version", ["4", "7.3"])
def test_other_versions_are_refused(version):
    file = io.BytesIO()
    scipy.io.savemat(file, {"X": np.ones((2, 2))}, format="4")
    data = file.getvalue() if version == "4" else b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(400)
    with pytest.raises(ValueError, match="version 5"):
        mat5.arrays(data, ("X",))


def test_a_shape_that_no_file_can_hold_is_refused_before_anything_is_allocated():
    data = saved(X=np.zeros((2, 3), np.uint8))
    sizes = struct.pack("<ii", 2, 3)
    assert data.count(sizes) == 1
    with pytest.raises(ValueError, match=r"shape \(2147483647, 2147483647\)"):
        mat5.arrays(data.replace(sizes, struct.pack("<ii", 2**31 - 1, 2**31 - 1)), ("X",))
