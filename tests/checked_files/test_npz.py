import io
import zipfile

import numpy as np
import pytest

from distsae.checked_files.npz import npz_arrays, require_npy
from distsae.errors import TornData


def test_arrays_are_read(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.arange(5), y=np.zeros((2, 3)))
    found = npz_arrays(tmp_path / "a.npz")
    assert found["x"].tolist() == [0, 1, 2, 3, 4]
    assert found["y"].shape == (2, 3)


def _npy(shape, descr="<f8", data=b""):
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": descr, "fortran_order": False, "shape": shape})
    return content.getvalue() + data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_npy((10**12,)), "where its header promises"),
        (_npy((2,), data=b"\0" * 8), "where its header promises"),
        (_npy((1,), "|O", b"\0" * 8), "objects"),
        (b"not npy", "cannot be read"),
        (b"", "cannot be read"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': [[[[[[(", "cannot be read"),
    ],
)
def test_headers_that_do_not_fit(tmp_path, content, words):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(TornData, match=words):
        npz_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "header",
    [
        "{[]: 1}",
        "{1: 2, 'descr': 3}",
        "{'descr': [0, 0], 'fortran_order': False, 'shape': ()}",
        f"{{'descr': {[0] * 3000}, 'fortran_order': False, 'shape': ()}}",
        "{'descr': 'f4', 'fortran_order': False, 'shape': (2.5,)}",
        "{'descr': 'f4', 'fortran_order': False, 'shape': (True, 0)}",
        "{'descr': ('<i4', (10**15,)), 'fortran_order': False, 'shape': (1,)}",
        "-" * 9000 + "1",
        "(" * 900,
    ],
)
def test_headers_of_any_form_end_in_one_short_line(header):
    text = header.encode() + b"\n"
    content = io.BytesIO(b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text)
    with pytest.raises(ValueError, match="its ") as error:
        require_npy(content, len(content.getvalue()))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_gigabytes_in_a_small_file_are_not_read(tmp_path):
    file = tmp_path / "a.npz"
    zeros = b"\0" * (1 << 20)
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as out,
    ):
        out.write(_npy((200 << 17,)))
        for _ in range(200):
            out.write(zeros)
    assert file.stat().st_size < 1 << 20
    with pytest.raises(TornData, match="must hold arrays that its size allows"):
        npz_arrays(file)


@pytest.mark.parametrize("content", [b"", b"PK", b"\0" * 100])
def test_something_else_than_an_archive(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(TornData, match=r"a.npz cannot be read"):
        npz_arrays(tmp_path / "a.npz")


def test_flipped_bytes_are_found_or_change_no_number(tmp_path):
    """Some bytes of an archive, such as the time of a member, mean nothing for its arrays."""
    expected = np.random.default_rng(0).normal(size=100)
    np.savez_compressed(tmp_path / "a.npz", x=expected)
    content = (tmp_path / "a.npz").read_bytes()
    found = 0
    for position in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[position] ^= 0x55
        (tmp_path / "a.npz").write_bytes(flipped)
        try:
            arrays = npz_arrays(tmp_path / "a.npz")
        except TornData:
            found += 1
        else:
            assert list(arrays) == ["x"]
            np.testing.assert_array_equal(arrays["x"], expected)
    assert found > 0.8 * len(content) / 7
