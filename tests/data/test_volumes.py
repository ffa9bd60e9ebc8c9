"""Volumes: orientation, intensities, resampling, labels, and the way back to the source's own grid."""

import gzip
import itertools
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from jcl.data import grids
from jcl.data.geometry import COLUMN_DIRECTION, FEET, orientation
from jcl.data.imagefile import written
from jcl.data.sources import SliceFiles
from jcl.data.volumes import (
    label_values,
    map_labels,
    read_image,
    read_label,
    write_label,
)
from jcl.errors import DataError

SUFFIXES = [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"]
ORIENTATIONS = [
    np.diag(signs)[:, list(order)].astype(float)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
"""Direction cosines, a column an axis, of all 48 ways to store a volume."""


def rotation(degrees: float) -> np.ndarray:
    """A turn about an axis that is none of the grid's."""
    axis = np.array([0.5, -0.3, 0.8]) / np.linalg.norm([0.5, -0.3, 0.8])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def make(
    array: np.ndarray, direction: np.ndarray | None = None, spacing: tuple[float, ...] | None = None
) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    rank = array.ndim
    image.SetSpacing(spacing or (1.0,) * rank)
    image.SetOrigin((-11.5, 7.25, 100.125, 0.0)[:rank])
    image.SetDirection((np.eye(rank) if direction is None else direction).ravel())
    return image


def save(path: Path, image: sitk.Image) -> Path:
    sitk.WriteImage(image, str(path), useCompression=path.suffix not in (".nii", ".raw"))
    return path


def random_array(*shape: int, kind: str = "int16", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, shape).astype(kind)


def anatomy(direction: np.ndarray, spacing: tuple[float, float, float], box: tuple[float, float, float]) -> sitk.Image:
    """A volume whose voxels say where they are: left + 10 posterior + 100 superior, in voxels of the box."""
    extent = np.abs(direction.T @ np.array(box))
    size = [round(float(length / step)) for length, step in zip(extent, spacing, strict=True)]
    index = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), axis=-1)
    place = (index - (np.array(size) - 1) / 2) * spacing @ direction.T
    values = place @ np.array([1.0, 10.0, 100.0]) + 1000
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0)).astype(np.float32))
    image.SetSpacing(spacing)
    image.SetDirection(direction.ravel())
    return image


@pytest.mark.parametrize("direction", ORIENTATIONS, ids=str)
def test_all_48_orientations_are_read_alike(tmp_path: Path, direction: np.ndarray) -> None:
    """Axial slices from feet to head, rows to the back, columns to the left."""
    image = anatomy(direction, (1.0, 1.0, 1.0), (5, 6, 4))
    volume = read_image([save(tmp_path / "a.nii.gz", image)])
    superior, posterior, left = np.mgrid[:4, :6, :5] - np.array([1.5, 2.5, 2.0])[:, None, None, None]
    np.testing.assert_allclose(volume.array[0], left + 10 * posterior + 100 * superior + 1000, atol=1e-3)
    assert volume.spacing == (1, 1, 1)


@pytest.mark.parametrize("degrees", [10, 25, -20])
@pytest.mark.parametrize("direction", ORIENTATIONS[::5], ids=str)
def test_oblique_volumes_are_read_alike(tmp_path: Path, direction: np.ndarray, degrees: float) -> None:
    turned = rotation(degrees)
    expected = read_image([save(tmp_path / "a.nii.gz", make(random_array(7, 6, 5), turned))]).array
    straight = make(random_array(7, 6, 5), turned)
    order = [int(np.flatnonzero(direction[:, axis])[0]) for axis in range(3)]
    permuted = sitk.PermuteAxes(straight, order)
    flipped = sitk.Flip(permuted, [bool(direction[:, axis].sum() < 0) for axis in range(3)])
    volume = read_image([save(tmp_path / "b.nii.gz", flipped)])
    np.testing.assert_array_equal(volume.array, expected)


@pytest.mark.parametrize("direction", ORIENTATIONS, ids=str)
@pytest.mark.parametrize(
    ("coarse", "slices", "rows", "columns"),
    [
        (0, (1, 0, 0), (0, 0, -1), (0, 1, 0)),
        (1, (0, -1, 0), (0, 0, -1), (1, 0, 0)),
        (2, (0, 0, 1), (0, 1, 0), (1, 0, 0)),
    ],
    ids=["sagittal to L", "coronal to A", "axial to S"],
)
def test_the_slice_axis_is_the_coarsest(
    tmp_path: Path,
    direction: np.ndarray,
    coarse: int,
    slices: tuple[int, ...],
    rows: tuple[int, ...],
    columns: tuple[int, ...],
) -> None:
    spacing = np.abs(direction.T @ np.where(np.arange(3) == coarse, 4.0, 1.0))
    image = anatomy(direction, (float(spacing[0]), float(spacing[1]), float(spacing[2])), (12, 16, 20))
    volume = read_image([save(tmp_path / "a.nrrd", image)])
    assert volume.spacing == (4, 1, 1)
    steps = [float(np.diff(volume.array[0], axis=axis).mean()) for axis in range(3)]
    weights = np.array([1, 10, 100])
    np.testing.assert_allclose(steps, [4 * weights @ slices, weights @ rows, weights @ columns], rtol=1e-4)


@pytest.mark.parametrize("tilt", [-30, -15, 0, 15, 30])
def test_axial_slices_stay_upright_when_they_are_tilted(tilt: float) -> None:
    """As heads and hearts are scanned: rows to the back, columns to the left, whatever the gantry or planner did."""
    angle = np.deg2rad(tilt)
    matrix = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    assert orientation(matrix, (1, 1, 4), (9, 9, 9)) == ((0, 1, 2), (False, False, False))


@pytest.mark.parametrize("turn", range(-40, 45, 10))
def test_short_axes_are_upright_whatever_way_they_are_stored(turn: float) -> None:
    """The plane of a real short axis, turned in itself: rows are the axis nearer to head and feet, towards the feet."""
    normal = np.array([0.666, -0.59, -0.45]) / np.linalg.norm([0.666, -0.59, -0.45])
    down = FEET - (FEET @ normal) * normal
    down /= np.linalg.norm(down)
    across = np.cross(down, normal)
    across *= np.sign(across @ COLUMN_DIRECTION)
    angle = np.deg2rad(turn)
    rows, columns = np.cos(angle) * down + np.sin(angle) * across, np.cos(angle) * across - np.sin(angle) * down
    for first, second in ((rows, columns), (columns, rows), (-rows, columns), (columns, -rows)):
        matrix = np.stack([first, second, normal], axis=1)
        axes, flips = orientation(matrix, (1, 1, 8), (9, 9, 9))
        found = [matrix[:, 2 - axis] * (-1 if flip else 1) for axis, flip in zip(axes, flips, strict=True)]
        np.testing.assert_allclose(found[1], rows, atol=1e-9)
        np.testing.assert_allclose(found[2], columns, atol=1e-9)


def test_a_little_coarser_is_not_coarse(tmp_path: Path) -> None:
    sagittal = save(tmp_path / "a.nrrd", make(random_array(8, 8, 8), spacing=(1.2, 1.0, 1.0)))
    assert read_image([sagittal]).geometry.axes == (0, 1, 2)
    sagittal = save(tmp_path / "a.nrrd", make(random_array(8, 8, 8), spacing=(1.3, 1.0, 1.0)))
    assert read_image([sagittal]).geometry.axes == (2, 0, 1)


def test_an_axis_of_one_voxel_is_the_slice_axis(tmp_path: Path) -> None:
    volume = read_image([save(tmp_path / "a.nii", make(random_array(9, 8, 1)))])
    assert volume.array.shape == (1, 1, 9, 8)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".png"])
def test_a_2d_image_is_one_slice_as_it_is(tmp_path: Path, suffix: str) -> None:
    array = random_array(6, 8, kind="uint8")
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.5, 0.7))
    volume = read_image([save(tmp_path / f"a{suffix}", image)])
    np.testing.assert_array_equal(volume.array, array[None, None])
    assert volume.geometry.shape == (1, 6, 8)
    if suffix != ".png":
        np.testing.assert_allclose(volume.spacing, (1, 0.7, 0.5), rtol=1e-6)
    write_label(tmp_path / f"b{suffix}", volume.array[0].astype(np.uint8), volume.geometry)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"b{suffix}"))), array)


def assert_same_grid(found: sitk.Image, expected: sitk.Image) -> None:
    assert found.GetSize() == expected.GetSize()
    np.testing.assert_allclose(found.GetSpacing(), expected.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(found.GetOrigin(), expected.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(found.GetDirection(), expected.GetDirection(), atol=1e-6)


@pytest.mark.parametrize("degrees", [0, 17, -40])
@pytest.mark.parametrize("direction", ORIENTATIONS, ids=str)
def test_the_identity_comes_back_in_the_sources_grid(tmp_path: Path, direction: np.ndarray, degrees: float) -> None:
    image = make(random_array(4, 6, 5, kind="uint8"), rotation(degrees) @ direction, spacing=(0.7, 0.8, 2.5))
    source = save(tmp_path / "source.nii.gz", image)
    volume = read_image([source])
    write_label(tmp_path / "out.nii.gz", volume.array[0].astype(np.uint8), volume.geometry)
    before, after = nibabel.load(source), nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(after.dataobj), np.asarray(before.dataobj))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.nii.gz", "source.nii.gz"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_identity_comes_back_in_every_format(tmp_path: Path, suffix: str) -> None:
    image = make(random_array(4, 6, 5, kind="uint16") * 7, rotation(33) @ ORIENTATIONS[29], spacing=(0.7, 0.8, 2.5))
    volume = read_image([save(tmp_path / f"source{suffix}", image)])
    assert volume.geometry.suffix == suffix
    out = tmp_path / "患者 1" / f"out{volume.geometry.suffix}"
    out.parent.mkdir()
    write_label(out, volume.array[0].astype(np.int32), volume.geometry)
    written = sitk.ReadImage(str(out))
    assert_same_grid(written, sitk.ReadImage(str(tmp_path / f"source{suffix}")))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(image))
    np.testing.assert_array_equal(read_label(out, volume), volume.array[0])


@pytest.mark.parametrize(("highest", "kind"), [(255, "uint8"), (256, "uint16"), (70000, "int32")])
def test_labels_are_written_in_the_smallest_type(tmp_path: Path, highest: int, kind: str) -> None:
    volume = read_image([save(tmp_path / "a.nrrd", make(random_array(3, 4, 5)))])
    labels = np.zeros(volume.geometry.shape, np.int32)
    labels[0, 0, 0] = highest
    write_label(tmp_path / "b.nrrd", labels, volume.geometry)
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "b.nrrd"))).dtype == kind


def test_labels_of_another_shape_are_not_written(tmp_path: Path) -> None:
    volume = read_image([save(tmp_path / "a.nrrd", make(random_array(3, 4, 5)))])
    with pytest.raises(ValueError, match=r"the source has \(3, 4, 5\)"):
        write_label(tmp_path / "b.nrrd", np.zeros((3, 4, 4), np.uint8), volume.geometry)
    with pytest.raises(DataError, match="cannot be written"):
        write_label(tmp_path / "none" / "b.nrrd", np.zeros((3, 4, 5), np.uint8), volume.geometry)


def test_slope_and_intercept_of_a_nifti_count(tmp_path: Path) -> None:
    stored = random_array(3, 4, 5)
    image = nibabel.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    path = tmp_path / "a.nii"
    nibabel.save(image, path)
    raw = bytearray(path.read_bytes())
    assert struct.unpack_from("<ff", raw, 112) == (0.5, -3)
    raw[352:] = stored.transpose(2, 1, 0).tobytes()
    path.write_bytes(raw)
    np.testing.assert_allclose(np.sort(read_image([path]).array.ravel()), np.sort(stored.ravel() * 0.5 - 3))


def nifti_bytes(stored: np.ndarray, order: str, slope: float, intercept: float) -> bytes:
    """A NIfTI file that holds these values as they are, whatever its scale."""
    image = nibabel.Nifti1Image(stored, np.eye(4), nibabel.Nifti1Header(endianness=order))
    image.header.set_data_dtype(stored.dtype)
    content = bytearray(image.to_bytes())
    struct.pack_into(f"{order}2f", content, 112, slope, intercept)
    content[352:] = stored.astype(stored.dtype.newbyteorder(order)).tobytes(order="F")
    return bytes(content)


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0, 0), (0.0506213531, -0.892403841), (1, -1024), (-2.5, 3)])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "kind", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]
)
def test_packed_voxels_are_those_that_simpleitk_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, order: str, slope: float, intercept: float
) -> None:
    random = np.random.default_rng(0)
    limits = np.iinfo(kind) if np.dtype(kind).kind in "iu" else np.iinfo("int16")
    stored = random.integers(limits.min, min(limits.max, 2**63 - 1), (50, 40, 30), endpoint=True).astype(kind)
    stored = stored * np.pi if np.dtype(kind).kind == "f" else stored
    content = nifti_bytes(stored.astype(kind), order, slope, intercept)
    (tmp_path / "a.nii").write_bytes(content)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content, 1))
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nii")))
    whole: list[bool] = []
    monkeypatch.setattr(grids, "written", lambda part: whole.append(len(part) > 352) or written(part))
    packed = grids.read_grid(tmp_path / "a.nii.gz").array[0]
    assert packed.dtype == expected.dtype
    np.testing.assert_array_equal(packed, expected)
    scaled = (slope, intercept) not in ((1, 0), (0, 0))
    assert any(whole) == (order == ">" or (scaled and np.dtype(kind).itemsize > (4 if kind == "float32" else 2)))


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1, 3), (4, 5, 3, 1), (4, 5, 3, 1, 2)])
def test_packed_files_of_any_rank_are_read_as_unpacked_ones(tmp_path: Path, shape: tuple[int, ...]) -> None:
    content = nifti_bytes(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), "<", 1, 0)
    found: list[list[np.ndarray | str]] = []
    for name, data in [("a.nii", content), ("a.nii.gz", gzip.compress(content))]:
        (tmp_path / name).write_bytes(data)
        try:
            grid = grids.read_grid(tmp_path / name)
            found.append([grid.array, np.array([*grid.size, *grid.spacing, *grid.origin, grid.colour])])
        except DataError as error:
            found.append([str(error).replace(".gz", "")])
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_every_type_of_voxel_is_read(tmp_path: Path, kind: str) -> None:
    array = random_array(3, 4, 5, kind="uint8").astype(kind) // 2
    volume = read_image([save(tmp_path / "a.nrrd", make(array))])
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array[0], array)


def test_4d_images_are_channels_only_when_told(tmp_path: Path) -> None:
    parts = [make(random_array(3, 4, 5, seed=seed)) for seed in range(2)]
    path = save(tmp_path / "a.nii.gz", sitk.JoinSeries(parts))
    volume = read_image([path], channels=2)
    np.testing.assert_array_equal(volume.array[1], sitk.GetArrayFromImage(parts[1]))
    assert volume.geometry.shape == (3, 4, 5)
    with pytest.raises(DataError, match=r"a\.nii\.gz: 4-D \(2 volumes\), but 1 wanted; give --channels 2"):
        read_image([path])
    with pytest.raises(DataError, match="a single volume, but 2 wanted"):
        read_image([save(tmp_path / "b.nii.gz", parts[0])], channels=2)
    one = save(tmp_path / "c.nii.gz", sitk.JoinSeries(parts[:1]))
    assert read_image([one]).array.shape == (1, 3, 4, 5)


def test_a_file_a_channel(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{seed}.nii.gz", make(random_array(3, 4, 5, seed=seed))) for seed in range(3)]
    assert read_image(paths, channels=3).array.shape == (3, 3, 4, 5)
    save(paths[1], make(random_array(3, 4, 6)))
    with pytest.raises(DataError, match=r"1\.nii\.gz: its size is 6 x 4 x 3, that of 0\.nii\.gz is 5 x 4 x 3"):
        read_image(paths, channels=3)


def voxels(value: float) -> np.ndarray:
    array = random_array(3, 4, 5, kind="float32")
    array[1, 2, 3] = value
    return array


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (voxels(np.nan), "1 voxels are NaN or infinite"),
        (voxels(np.inf), "1 voxels are NaN or infinite"),
        (voxels(0).astype(np.float64) * 1e300 + 1, "voxels are NaN or infinite"),
        (np.full((3, 4, 5), 7, np.int16), "all voxels are 7"),
    ],
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_voxels_that_cannot_be_used(tmp_path: Path, array: np.ndarray, words: str, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", make(array))
    with pytest.raises(DataError, match=words) as caught:
        read_image([path])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_colours_are_channels_only_when_told(tmp_path: Path) -> None:
    array = random_array(6, 8, 3, kind="uint8")
    path = save(tmp_path / "a.png", sitk.GetImageFromArray(array, isVector=True))
    with pytest.raises(DataError, match=r"a\.png: colour \(3 values per pixel\), but 1 wanted; give --channels 3"):
        read_image([path])
    volume = read_image([path], channels=3)
    np.testing.assert_array_equal(volume.array[:, 0], array.transpose(2, 0, 1))
    with pytest.raises(DataError, match=r"a\.png: a 4-D or colour label \(3 values per voxel\)"):
        read_label(path, volume)
    grey = save(tmp_path / "b.png", make(random_array(6, 8, kind="uint8")))
    with pytest.raises(DataError, match=r"b\.png: a single volume, but 3 wanted"):
        read_image([grey], channels=3)


def test_photographs_are_read_in_colour_and_answered_without_loss(tmp_path: Path) -> None:
    row, column = np.mgrid[:40, :56]
    array = np.stack([4 * row, 3 * column, 200 - row - column], axis=-1).astype(np.uint8)
    Image.fromarray(array).save(tmp_path / "a.JPG", quality=95)
    volume = read_image([tmp_path / "a.JPG"], channels=3)
    np.testing.assert_allclose(volume.array[:, 0], array.transpose(2, 0, 1), atol=12)
    assert volume.geometry.suffix == ".png"


def test_label_slices_are_pictures_in_order(tmp_path: Path) -> None:
    volume = read_image([save(tmp_path / "a.nii.gz", make(random_array(3, 4, 5), ORIENTATIONS[0]))])
    array = random_array(3, 4, 5, kind="uint8", seed=1)
    files = tuple(save(tmp_path / f"{k}.png", sitk.GetImageFromArray(part)) for k, part in enumerate(array))
    expected = read_label(save(tmp_path / "b.nii.gz", make(array, ORIENTATIONS[0])), volume)
    np.testing.assert_array_equal(read_label(SliceFiles(tmp_path, files), volume), expected)
    with pytest.raises(DataError, match="2 label slices, but its image has 3"):
        read_label(SliceFiles(tmp_path, files[:2]), volume)
    save(files[1], sitk.GetImageFromArray(array[0, :, :3]))
    with pytest.raises(DataError, match=r"1\.png: its size is 3 x 4, that of its image's slices is 5 x 4"):
        read_label(SliceFiles(tmp_path, files), volume)


def test_axes_that_are_not_at_right_angles(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.3
    nibabel.save(nibabel.Nifti1Image(random_array(13, 14, 5), affine), tmp_path / "a.nii.gz")
    with pytest.raises(DataError, match=r"a\.nii\.gz: its axes are not at right angles \(a corner would move by"):
        read_image([tmp_path / "a.nii.gz"])
    path = save(tmp_path / "a.mha", make(random_array(3, 4, 5)))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"TransformMatrix = 1 0 0 0 1 0", b"TransformMatrix = 1 0 0 1 1 0"))
    with pytest.raises(DataError, match="not at right angles"):
        read_image([path])


def test_an_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a known image format"):
        read_image([tmp_path / "a.gif"])


@pytest.mark.parametrize("direction", ORIENTATIONS[::7], ids=str)
def test_labels_are_turned_as_their_image(tmp_path: Path, direction: np.ndarray) -> None:
    array = random_array(4, 5, 6, kind="uint8")
    volume = read_image([save(tmp_path / "a.nii.gz", make(array, direction))])
    for kind in ("uint8", "int16", "float32", "float64"):
        label = save(tmp_path / "b.nii.gz", make(array.astype(kind), direction))
        found = read_label(label, volume)
        assert np.issubdtype(found.dtype, np.integer)
        np.testing.assert_array_equal(found, volume.array[0])
        assert label_values(label) == tuple(np.unique(array).tolist())


@pytest.mark.parametrize("direction", ORIENTATIONS[::5], ids=str)
def test_labels_may_be_stored_in_another_order_of_axes(tmp_path: Path, direction: np.ndarray) -> None:
    """As converters leave them: the same voxels in the same places, other axes first or reversed."""
    box = (5.0, 7.0, 15.0)
    spacing = (1.0, 1.0, 3.0)
    volume = read_image([save(tmp_path / "a.nii.gz", anatomy(np.eye(3), spacing, box))])
    turned = anatomy(direction, tuple(np.abs(direction.T @ np.array(spacing))), box)
    half = np.array([size - 1 for size in turned.GetSize()]) * turned.GetSpacing() / 2
    whole = np.array([4, 6, 4]) * spacing / 2
    turned.SetOrigin(tuple(whole - direction @ half))
    found = read_label(save(tmp_path / "b.nii.gz", turned), volume)
    np.testing.assert_array_equal(found, volume.array[0])


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (make(random_array(3, 4, 6)), "its size is 6 x 4 x 3, that of its image is 5 x 4 x 3"),
        (make(random_array(4, 3, 5)), "its size is 5 x 3 x 4"),
        (make(random_array(3, 4, 5), spacing=(1.2, 1, 1)), r"lies 0\.8 mm apart from its image"),
        (make(random_array(3, 4, 5), ORIENTATIONS[1]), "mm apart from its image"),
        (make(random_array(3, 4, 5).astype(np.float32) + 0.25), "not whole numbers"),
        (make(voxels(np.nan)), "not whole numbers"),
        (make(voxels(1e12)), "tells whole numbers apart only up to 16777216"),
        (make(random_array(3, 4, 5) - 1), "label values go down to -1"),
        (sitk.JoinSeries([make(random_array(3, 4, 5))] * 2), "a 4-D or colour label"),
    ],
)
def test_labels_that_do_not_fit(tmp_path: Path, label: sitk.Image, words: str) -> None:
    volume = read_image([save(tmp_path / "a.nrrd", make(random_array(3, 4, 5)))])
    path = save(tmp_path / "b.nrrd", label)
    with pytest.raises(DataError, match=words) as caught:
        read_label(path, volume)
    assert str(path) in str(caught.value)


def test_a_label_a_hair_off_is_taken(tmp_path: Path) -> None:
    volume = read_image([save(tmp_path / "a.nrrd", make(random_array(3, 4, 5)))])
    near = make(random_array(3, 4, 5))
    near.SetOrigin((-11.5 + 0.05, 7.25, 100.125))
    assert read_label(save(tmp_path / "b.nrrd", near), volume).shape == (3, 4, 5)
    near.SetOrigin((-11.5 + 0.15, 7.25, 100.125))
    with pytest.raises(DataError, match="mm apart"):
        read_label(save(tmp_path / "b.nrrd", near), volume)


def test_label_values_become_classes() -> None:
    labels = np.array([[[0, 500, 205], [600, 500, 421]]])
    path = Path("x.nii")
    mapped = map_labels(labels, {500: 1, 600: 2, 205: 3}, other="background", path=path)
    np.testing.assert_array_equal(mapped, [[[0, 1, 3], [2, 1, 0]]])
    with pytest.raises(DataError, match=r"x\.nii: unknown label values 421; known are 500, 600, 205"):
        map_labels(labels, {500: 1, 600: 2, 205: 3}, other="error", path=path)
    with pytest.raises(DataError, match=r"values 1, 2, 3, 4, 5, 6, 7, 8, \.\.\.; known are none"):
        map_labels(np.arange(20).reshape(1, 4, 5), {}, other="error", path=path)
    assert not map_labels(np.full((1, 2, 2), -1), {}, other="background", path=path).any()
