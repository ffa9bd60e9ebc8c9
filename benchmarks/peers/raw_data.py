"""A data set in nnU-Net's raw format, from its source volumes or from a prepared store, with a split of jcl's.

FOLDER/imagesTr/CASE_0000.nii.gz   the labelled training patients alone: what else there is, no peer can use
FOLDER/labelsTr/CASE.nii.gz        0 background, k + 1 the k-th structure
FOLDER/imagesTs/CASE_0000.nii.gz   the test patients; their labels stay where they are
FOLDER/dataset.json, splits_final.json
"""

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from jcl.data.cases import CaseSource, find_cases
from jcl.data.datasets import DatasetSpec, load_spec, resolve
from jcl.data.sources import suffix_of
from jcl.data.splits import Split, draw_split, few_patients, labelled_part
from jcl.data.store import Store
from jcl.data.volumes import map_labels, read_image, read_label, write_label, write_map

ENDING = ".nii.gz"


def spec_of(source: Path) -> DatasetSpec:
    """What is known of a data set in the layout of the Decathlon.

    Raises:
        ValueError: some voxels or slices are to be ignored, for which the peers have no counterpart here.
    """
    spec = resolve(load_spec("auto"), source)
    if spec.ignore is not None or spec.sparse:
        raise ValueError(f"{source}: has voxels to be ignored, which this comparison cannot hand on")
    return spec


def draw(source: Path, *, labelled: int, fold: int) -> Split:
    """The split that `jcl finetune --fold FOLD --patients LABELLED` draws, from the source folder alone."""
    patients: dict[str, bool] = {}
    for case in find_cases(source, spec_of(source)):
        patients[case.patient] = patients.get(case.patient, False) or case.label is not None
    return few_patients(labelled_part(draw_split(patients, fold=fold), patients), labelled)


def cases_of(source: Path, patients: Iterable[str]) -> list[CaseSource]:
    """The labelled cases of some patients."""
    wanted = set(patients)
    return [case for case in find_cases(source, spec_of(source)) if case.patient in wanted and case.label is not None]


def export_source(source: Path, folder: Path, split: Split) -> None:
    """Write the volumes as they are: files that are NIfTI already are copied byte by byte, all others keep their grid.

    Labels become numbers from 1 in the order of the store's classes, on the grid of their image.

    Raises:
        DataError: a file cannot be read.
    """
    spec = spec_of(source)
    values = {value: spec.class_names.index(name) + 1 for value, name in spec.labels.items()}
    for part, patients in (("Tr", split.train), ("Ts", split.test)):
        (folder / f"images{part}").mkdir(parents=True, exist_ok=True)
        (folder / "labelsTr").mkdir(exist_ok=True)
        for case in cases_of(source, patients):
            volume = read_image(case.images, channels=spec.channels)
            for channel, array in enumerate(volume.array):
                path = folder / f"images{part}" / f"{case.case}_{channel:04d}{ENDING}"
                own = case.images[channel] if len(case.images) == spec.channels else None
                if isinstance(own, Path) and suffix_of(own) == ENDING:
                    shutil.copyfile(own, path)
                else:
                    write_map(path, array, volume.geometry)
            if part == "Tr" and case.label is not None:
                classes = map_labels(read_label(case.label, volume), values, other=spec.other_labels, path=case.label)
                write_label(folder / "labelsTr" / f"{case.case}{ENDING}", classes, volume.geometry)
    names = [case.case for case in cases_of(source, split.train)]
    _describe(folder, spec.class_names, [spec.modality] * spec.channels, names)


def export_store(path: Path, folder: Path, split: Split) -> None:
    """Write what a store has of each case: scaled, resampled and turned, without its padding.

    The volumes have no place in the scanner any more; `scoring.to_source` brings back what is predicted for them.

    Raises:
        DataError: the store is damaged.
    """
    store = Store.open(path)
    names: list[str] = []
    for part, patients in (("Tr", split.train), ("Ts", split.test)):
        (folder / f"images{part}").mkdir(parents=True, exist_ok=True)
        (folder / "labelsTr").mkdir(exist_ok=True)
        for number, record in enumerate(store.cases):
            if record.patient not in patients or not record.labelled:
                continue
            content = store.content(number)
            images = np.stack([store.image(number, k)[:, *content] for k in range(record.slices)], axis=1)
            for channel, array in enumerate(images):
                _save(folder / f"images{part}" / f"{record.case}_{channel:04d}{ENDING}", array, record.spacing)
            if part == "Tr":
                labels = np.stack([store.label(number, k)[content] for k in range(record.slices)])
                _save(folder / "labelsTr" / f"{record.case}{ENDING}", labels, record.spacing)
                names.append(record.case)
    _describe(folder, store.class_names, [store.preparation["modality"]] * store.channels, names)
    store.close()


def _save(path: Path, array: np.ndarray, spacing: Sequence[float]) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(tuple(spacing)[::-1])
    sitk.WriteImage(image, str(path))


def _describe(folder: Path, classes: Sequence[str], modalities: Sequence[str], training: Sequence[str]) -> None:
    """dataset.json, and splits_final.json: all labelled patients train, so nnU-Net holds none of them back."""
    about = {
        # a channel called CT is scaled by the values of the whole set, any other by those of each volume
        "channel_names": {str(number): name or "MRI" for number, name in enumerate(modalities)},
        "labels": {"background": 0, **{name: number + 1 for number, name in enumerate(classes)}},
        "numTraining": len(training),
        "file_ending": ENDING,
    }
    (folder / "dataset.json").write_text(json.dumps(about, indent=1) + "\n")
    split = [{"train": sorted(training), "val": sorted(training)}]
    (folder / "splits_final.json").write_text(json.dumps(split, indent=1) + "\n")
