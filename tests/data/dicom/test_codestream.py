"""Bits and sign that packed data state against those of the header: the values that were packed, or one line."""

import base64
from pathlib import Path

import jpeg_ls
import numpy as np
import pytest
from pydicom.dataset import Dataset

from jcl.data.dicom.codestream import read_codestream
from jcl.data.dicom.header import Header
from jcl.data.dicom.voxels import read_series
from jcl.data.notes import noted
from jcl.errors import DataError
from support.dicomcoders import JPEG_2000, JPEG_LS, LOSSLESS, through_itk
from support.dicomfiles import compress, image, save

BITS_14 = base64.b64decode(
    "/0//UQApAAAAAABAAAAAQAAAAAAAAAAAAAAAQAAAAEAAAAAAAAAAAAABDQEB/1IADAAAAAEABQQEAAH/XAATQHB4eIB4eIB4eIB4eIB4eID/"
    "ZAAlAAFDcmVhdGVkIGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjL/kAAKAAAAAADJAAH/k9/4MEgD71gVpkcV4H+j/wADgAB0xC+NJwuj/wAJ"
    "gA8mgBzKNadDAHKg/BZP0UdXfz+n/gwuA4TO4aI199ADBTv/fh+drmSqksIWAb+n/gyOZq5E4Bx9Ng+ppS18G7CYRqGoMGLzWlH6KE7Lmw/P"
    "zndz5sPzYhA8nokBkwBgWj7EoF46DAtJPBNL2eFqfzds5R/SnhfsEk+n/gxAxDZKnp8EfOg78g3QAAAABhGsPsfopMKKvU1XkgNwpb//2Q=="
)
"""Rows from -1000 to 1000 as numbers of 14 bits without sign, packed by OpenJPEG."""

RAMP = np.repeat(np.linspace(-1000, 1000, 64).astype(np.int16)[:, None], 64, 1)
HIGH = (RAMP.astype(np.int32) + 33000).astype(np.uint16)


def read(path: Path, pixels: np.ndarray, syntax: str, data: bytes, **tags: object) -> tuple[np.ndarray, str]:
    dataset: Dataset = compress(image(pixels, "1", **tags), syntax, lambda _: data)
    with noted() as notes:
        found, _ = read_series([save(path / "1.dcm", dataset)])
    return found[0], " ".join(notes)


def header(syntax: str) -> Header:
    return Header(Path("x"), syntax=syntax)


def test_what_data_state_is_read(tmp_path: Path) -> None:
    assert str(read_codestream(header(JPEG_2000), BITS_14)) == "14 bits, unsigned"
    assert str(read_codestream(header(JPEG_2000), through_itk("JPEG2000", RAMP, tmp_path))) == "16 bits, signed"
    assert str(read_codestream(header(LOSSLESS), through_itk("JPEG", HIGH, tmp_path))) == "16 bits"
    assert str(read_codestream(header(JPEG_LS), bytes(jpeg_ls.encode(HIGH & 4095)))) == "12 bits"
    assert read_codestream(header(JPEG_2000), b"no such data" * 9) is None
    assert read_codestream(header(LOSSLESS), b"no such data" * 9) is None


def test_data_of_fewer_bits_than_the_header_says_keep_their_sign(tmp_path: Path) -> None:
    """Air at -1000 came out at 15384.

    https://github.com/pydicom/pydicom/issues/693
    https://github.com/pydicom/pydicom/pull/1001
    """
    found, notes = read(tmp_path, RAMP, JPEG_2000, BITS_14)
    np.testing.assert_array_equal(found, RAMP)
    assert (
        "1.dcm: the data have 14 bits, unsigned, the header 16 bits, signed; the values were taken for signed" in notes
    )
    found, notes = read(tmp_path, RAMP, JPEG_2000, BITS_14, BitsStored=14, HighBit=13)
    np.testing.assert_array_equal(found, RAMP)
    found, notes = read(tmp_path, RAMP, JPEG_2000, BITS_14, PixelRepresentation=0)
    np.testing.assert_array_equal(found, RAMP % (1 << 14))
    assert notes == ""


def test_signed_values_that_were_packed_as_unsigned_ones(tmp_path: Path) -> None:
    """Encoders pack the two's complement, so that all comes out 32768 or 65536 higher.

    https://github.com/dcm4che/dcm4che/issues/647
    https://github.com/fo-dicom/fo-dicom/issues/738
    """
    data = through_itk("JPEG2000", RAMP.view(np.uint16), tmp_path)
    found, notes = read(tmp_path, RAMP, JPEG_2000, data)
    np.testing.assert_array_equal(found, RAMP)
    assert "16 bits, unsigned, the header 16 bits, signed" in notes
    data = through_itk("JPEG2000", np.abs(RAMP).astype(np.uint16), tmp_path)
    found, notes = read(tmp_path, RAMP, JPEG_2000, data)
    np.testing.assert_array_equal(found, np.abs(RAMP))
    assert notes == ""  # by both statements they are these values


def test_data_that_cannot_state_a_sign(tmp_path: Path) -> None:
    """JPEG-LS does not have one; with fewer bits stored than allocated it was lost.

    https://github.com/pydicom/pydicom/issues/2009
    """
    twelve = {"BitsStored": 12, "HighBit": 11}
    found, notes = read(tmp_path, RAMP, JPEG_LS, bytes(jpeg_ls.encode(RAMP.view(np.uint16) & 4095)), **twelve)
    np.testing.assert_array_equal(found, RAMP)
    assert notes == ""


def test_the_sign_may_fill_the_bits_that_are_not_stored(tmp_path: Path) -> None:
    """Encoders include the unused bits of signed values.

    https://github.com/dcm4che/dcm4che/issues/638
    """
    twelve = {"BitsStored": 12, "HighBit": 11}
    for kind, syntax in (("JPEG", LOSSLESS), ("JPEG2000", JPEG_2000)):
        found, _ = read(tmp_path, RAMP, syntax, through_itk(kind, RAMP, tmp_path), **twelve)
        np.testing.assert_array_equal(found, RAMP)


@pytest.mark.parametrize(
    ("pixels", "tags", "words"),
    [
        (RAMP, {"PixelRepresentation": 0}, "16 bits, signed, the header 16 bits, unsigned, and values go from -1000"),
        (HIGH, {"BitsStored": 12, "HighBit": 11}, "the header 12 bits, unsigned, and values go from 32000 to 34000"),
        (RAMP, {"BitsStored": 8, "HighBit": 7}, "the header 8 bits, signed, and values go from -1000 to 1000"),
    ],
)
def test_values_that_do_not_fit_are_refused(
    tmp_path: Path, pixels: np.ndarray, tags: dict[str, int], words: str
) -> None:
    """What the header says is not believed against values that say otherwise.

    https://github.com/pydicom/pylibjpeg-openjpeg/issues/12
    """
    data = through_itk("JPEG2000", pixels, tmp_path)
    with pytest.raises(DataError, match=rf"1\.dcm: .*{words}.*; correct its BitsStored or PixelRepresentation"):
        read(tmp_path, pixels, JPEG_2000, data, **tags)
    if pixels is RAMP and "BitsStored" in tags:
        with pytest.raises(DataError, match="not all values fit into these"):
            read(tmp_path, pixels, LOSSLESS, through_itk("JPEG", pixels, tmp_path), **tags)
