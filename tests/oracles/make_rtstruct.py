"""What other programs make of contours: writes `rt_utils.dcm`, and compares with dcmrtstruct2nii.

Run where rt-utils 1.2.7, dcmrtstruct2nii 5, pydicom 3 and this package are installed, from the folder `tests`:
`python oracles/make_rtstruct.py`. rt-utils draws contours through the centres of the outermost voxels;
dcmrtstruct2nii fills the contours of `write_structure_set` and has to find the same voxels.
"""

import tempfile
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from dcmrtstruct2nii import dcmrtstruct2nii
from rt_utils import RTStructBuilder

from data.dicom.test_structures import NAMES, SQUARE_SERIES, labels, series
from jcl.data.dicom.structure_set import write_structure_set

if __name__ == "__main__":
    pydicom.read_file = pydicom.dcmread  # the name that dcmrtstruct2nii knows
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        files, _ = series(work / "in", **SQUARE_SERIES)
        voxels = labels(rows=16)
        made = RTStructBuilder.create_new(str(work / "in"))
        for number, name in enumerate(NAMES, 1):
            made.add_roi(mask=np.moveaxis(voxels == number, 0, -1), name=name, approximate_contours=False)
        made.save(str(Path(__file__).with_name("rt_utils.dcm")))
        write_structure_set(work / "ours.dcm", voxels, files, NAMES)
        dcmrtstruct2nii(str(work / "ours.dcm"), str(work / "in"), str(work / "out"), convert_original_dicom=False)
        for number, name in enumerate(NAMES, 1):
            read = sitk.GetArrayFromImage(sitk.ReadImage(str(work / "out" / f"mask_{name.replace(' ', '-')}.nii.gz")))
            print(name, "the same voxels:", np.array_equal(read > 0, voxels == number))
