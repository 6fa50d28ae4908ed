"""MATLAB files as SciPy and MATLAB write them, and every truncation of them."""

import io

import numpy as np
import pytest
import scipy.io

from pp_jax.data.files import merge
from pp_jax.data.formats import mat, mat5
from pp_jax.data.types import DatasetCorrupt

X = np.random.default_rng(0).integers(0, 256, (4, 4, 3, 5), dtype=np.uint8)
Y = np.array([[1], [10], [9], [10], [2]])


def saved(compressed: bool = False, **content) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, content, do_compression=compressed)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f4", "f8", "i8"])
def test_arrays_are_read_as_scipy_wrote_them(compressed, dtype):
    data = saved(compressed, note="text", X=X, y=Y.astype(dtype), more={"a": 1})
    found = mat5.read(data, ("X", "y"))
    np.testing.assert_array_equal(found["X"], X)
    np.testing.assert_array_equal(found["y"], Y)
    assert (found["X"].dtype, found["y"].dtype) == (np.uint8, np.dtype(dtype))


def test_numbers_may_be_stored_smaller_than_their_class():
    data = saved(y=np.array([[7.0, 300.0]]))
    values = np.array([7.0, 300.0]).tobytes()
    smaller = b"\x04\0\x04\0" + np.array([7, 300], np.uint16).tobytes()
    tag = b"\x09\0\0\0\x10\0\0\0" + values
    assert tag in data
    size = int.from_bytes(data[132:136], "little") - len(tag) + len(smaller)
    data = data[:132] + size.to_bytes(4, "little") + data[136:].replace(tag, smaller)
    np.testing.assert_array_equal(mat5.read(data, ("y",))["y"], [[7.0, 300.0]])


@pytest.mark.parametrize("compressed", [False, True])
def test_every_truncation_is_one_error(compressed):
    data = saved(compressed, X=X, y=Y)
    for size in range(len(data)):
        with pytest.raises(DatasetCorrupt, match="not a whole SVHN"):
            mat.read(merge("svhn", {"train_32x32.mat": data[:size]}))


@pytest.mark.parametrize("content", ["text", {"a": 1}, X * 1j, np.array([["a", 1]], object)])
def test_what_is_no_array_of_real_numbers_is_refused(content):
    with pytest.raises(ValueError, match="no array of real numbers"):
        mat5.read(saved(X=content), ("X",))


@pytest.mark.parametrize("signature", [b"MATLAB 7.3 MAT-file", b"\x89HDF\r\n\x1a\n"])
def test_svhn_saved_as_hdf5_is_named_as_such(signature):
    with pytest.raises(DatasetCorrupt, match=r"train_32x32\.mat was saved as MATLAB v7\.3 \(HDF5\).*'-v7'"):
        mat.read(merge("svhn", {"train_32x32.mat": signature.ljust(1000, b"\0")}))


def test_svhns_labels_may_be_floating_point_numbers():
    images, digits = mat.read(merge("svhn", {"train_32x32.mat": saved(X=X, y=Y.astype(float))})).splits["train"]
    np.testing.assert_array_equal(images, np.moveaxis(X, -1, 0))
    assert digits.tolist() == [1, 0, 9, 0, 2]
