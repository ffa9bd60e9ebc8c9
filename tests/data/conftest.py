"""A store as `prepare` makes it, and one of volumes of different sizes and spacings, some smaller than a block."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from jcl.config import PrepareConfig
from jcl.data.datasets import DatasetSpec
from jcl.data.preparation import make_preparation
from jcl.data.store import Store
from jcl.data.store_writing import write_case, write_manifest
from jcl.stages.prepare import prepare
from support.scans import write_volumes

SHAPES = ((9, 20, 17), (3, 12, 30), (12, 10, 10))
SPACINGS = ((3.0, 1.0, 1.0), (1.0, 1.0, 1.0), (6.0, 1.5, 1.5))


@pytest.fixture(scope="package")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Four patients of five slices, of whom the first two have labels."""
    base: Path = tmp_path_factory.mktemp("prepared")
    source = write_volumes(base / "scans", patients=4, labelled=2, slices=5)
    opened = prepare(PrepareConfig(source=source, out=base / "store", labels="1=ball", workers=1))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def block_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three patients, of whom the first two have labels; two channels; class 1 in both, class 2 in the first."""
    path: Path = tmp_path_factory.mktemp("blocks") / "store"
    (path / "cases").mkdir(parents=True)
    records = []
    for number, (shape, spacing) in enumerate(zip(SHAPES, SPACINGS, strict=True)):
        image = np.random.default_rng(number).random((2, *shape)).astype(np.float32)
        labels = np.zeros(shape, np.uint8)
        labels[1, 2:5, 3:6] = 1
        if number == 0:
            labels[7, 18, 15] = 2
        records.append(
            write_case(
                path,
                image,
                labels if number < 2 else None,
                case=f"c{number}",
                patient=f"p{number}",
                spacing=spacing,
                source={"images": [], "label": []},
                classes=2,
            )
        )
    spec = DatasetSpec(name="folder", labels={1: "large", 2: "small"}, channels=2)
    recipe = {**make_preparation(spec, {1: "large", 2: "small"}, size_given=False), "padded": [20, 30]}
    write_manifest(path, recipe, records, [])
    return Store.open(path)
