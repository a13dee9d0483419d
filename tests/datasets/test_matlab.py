"""MATLAB files: what SciPy reads, with SciPy and files of MATLAB itself as the oracle, and damage of any kind."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from scipy.io import loadmat, savemat

from datasets.readers.matlab import LARGEST, read_mat
from utils.errors import UserError

OF_MATLAB = Path(scipy.io.__file__).parent / "matlab" / "tests" / "data"  # part of SciPy's installation, mostly
NAMES = np.array([["a.bmp"], [""], ["ä 图.bmp"], ["long name.png"]], dtype=object)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "values",
    [
        *(
            np.linspace(-1, 1, 7),
            np.arange(6).reshape(2, 3),
            np.ones((1, 982), np.uint8),
            np.float32([[1.5], [np.nan]]),
        ),
        *(np.zeros((0, 3)), np.array(5.0), np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.array([True, False])),
    ],
)
def test_numbers_as_scipy_writes_and_reads_them(values, compressed, tmp_path):
    path = tmp_path / "a.mat"
    savemat(path, {"before": {"a": 1}, "x": values, "text": "abc"}, do_compression=compressed)
    (found,) = read_mat(path, "x")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, loadmat(path)["x"].astype(np.float64))


@pytest.mark.parametrize("compressed", [False, True])
def test_texts_as_scipy_writes_them(compressed, tmp_path):
    savemat(tmp_path / "a.mat", {"names": NAMES, "x": 1.0}, do_compression=compressed)
    (found,) = read_mat(tmp_path / "a.mat", "names", texts=True)
    assert found.tolist() == NAMES.tolist()


@pytest.mark.skipif(not OF_MATLAB.is_dir(), reason="this SciPy comes without its test files")
def test_files_of_matlab_itself():
    """Versions 6.1 to 7.4 on big-endian and little-endian machines, and what is none of them."""
    checked = 0
    for path in sorted(OF_MATLAB.glob("test*_[67]*.mat")):
        if path.name.startswith(("testhdf5", "testobject", "testfunc", "testmatlabstring")):
            continue
        for name, value in loadmat(path).items():
            if isinstance(value, np.ndarray) and value.dtype.kind in "iuf":
                np.testing.assert_array_equal(read_mat(path, name)[0], value)
                checked += 1
            elif not name.startswith("__"):
                with pytest.raises(UserError, match=f"{name} is not an array of real numbers"):
                    read_mat(path, name)
    assert checked >= 15
    for order in ("big", "little"):
        path = OF_MATLAB / f"{order}_endian.mat"
        expected = [cell.item() for cell in loadmat(path)["strings"].ravel()]
        assert read_mat(path, "strings", texts=True)[0].ravel().tolist() == expected
    with pytest.raises(UserError, match=r"version 7\.3; save it in MATLAB with the option -v7"):
        read_mat(OF_MATLAB / "testhdf5_7.4_GLNX86.mat", "x")


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def array(values: bytes, shape: tuple[int, ...] = (1, 1), flags: int = 6, kind: int = 9) -> bytes:
    head = element(6, struct.pack("<II", flags, 0)) + element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, head + element(1, b"x") + element(kind, values))


BOMB = zlib.compress(element(14, b"\0" * (LARGEST + 1)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (array(b"\0" * 8, (2**31 - 1, 2**31 - 1)), "x has 1 values and the shape"),
        (array(b"\0" * 8, (-1, -1)), "x has 1 values and the shape"),
        (array(b"\0" * 8, ()), "x has 1 values and the shape"),
        (array(b"\0" * 7), "x|buffer size"),
        (array(b"\0" * 8, kind=99), "x is not an array of real numbers"),
        (struct.pack("<II", 14, 2**32 - 1) + b"\0" * 8, "an element of 4294967295 bytes, of which 8 are there"),
        (struct.pack("<I", 5 << 16 | 14) + b"\0" * 8, "a short element of 5 bytes"),
        (struct.pack("<II", 15, len(BOMB)) + BOMB, "a variable of more than 64 MB"),
        (element(15, b"no zlib"), "incorrect header"),
        (element(9, b"\0" * 8), "an element of type 9 instead of an array"),
    ],
)
def test_false_sizes_and_types(content, message, tmp_path):
    (tmp_path / "a.mat").write_bytes(b" " * 124 + b"\0\1IM" + content)
    with pytest.raises(UserError, match=rf"a\.mat: cannot be read as a MATLAB file: .*{message}"):
        read_mat(tmp_path / "a.mat", "x")


def test_cells_of_other_things_than_texts(tmp_path):
    for cell in (np.ones(2), np.array(["ab", "cd"]), {"a": 1}):
        cells = np.empty(1, dtype=object)
        cells[0] = cell
        savemat(tmp_path / "a.mat", {"names": cells})
        with pytest.raises(UserError, match="a cell contains something else than a line of text"):
            read_mat(tmp_path / "a.mat", "names", texts=True)
    savemat(tmp_path / "a.mat", {"names": np.ones(2)})
    with pytest.raises(UserError, match="names is not a cell array of texts"):
        read_mat(tmp_path / "a.mat", "names", texts=True)
