"""Every documented path works after `import jcl` alone, which is quick; what was moved is still found."""

import ast
import subprocess
import sys
from importlib import resources

import pytest

import jcl

PUBLIC = """
    losses.position_mask losses.info_nce losses.dense_info_nce losses.equivariance
    methods.available methods.load semi.available semi.load backbones.available backbones.load backbones.adapt
    stages.prepare.prepare stages.verify.verify stages.pretrain.pretrain stages.finetune.finetune
    stages.evaluate.evaluate stages.predict.predict stages.export.export
    config.PrepareConfig config.VerifyConfig config.PretrainConfig config.FinetuneConfig config.EvaluateConfig
    config.PredictConfig config.ExportConfig config.BenchmarkConfig config.ReportConfig config.DemoConfig
    metrics.score_case data.store.Store data.batches.SliceBatch data.splits.Split data.splits.make_split
    augment.warp augment.random_affine augment.jitter augment.corrupt_labels augment.spatial.warp
    ssl.heads.InstanceProjector errors.DataError load
    adapter.adapt views.warp heads.InstanceProjector
"""
"""Those of the documentation, and in the last line those of version 0.1.0 that were moved."""

FRESH = """
import sys
import jcl
heavy = {"torch", "numpy", "scipy", "SimpleITK", "matplotlib"} & {*sys.modules}
listed = {package: dir(jcl if package == "jcl" else getattr(jcl, package)) for package in ("jcl", "data", "ssl")}
missing = []
for path in sys.argv[1:]:
    for name in [name for name in sys.modules if name.partition(".")[0] == "jcl"]:
        if not name.startswith("jcl.kernels"):  # whose operators PyTorch takes once per interpreter
            del sys.modules[name]  # what another path has imported does not help this one
    import jcl
    found = jcl
    try:
        for name in path.split("."):
            found = getattr(found, name)
        assert callable(found), "is nothing to call"
    except Exception as error:
        missing.append(f"{path}: {error}")
print((heavy, listed, missing))
"""


@pytest.fixture(scope="module")
def fresh() -> tuple[set[str], dict[str, list[str]], list[str]]:
    """Of a new interpreter: heavy modules that `import jcl` imports, what packages list, and the paths that fail."""
    command = [sys.executable, "-c", FRESH, *PUBLIC.split()]
    return ast.literal_eval(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_every_documented_path_works_after_import_jcl_alone(fresh):
    assert fresh[2] == []


def test_import_jcl_alone_imports_nothing_heavy(fresh):
    assert fresh[0] == set()


def test_packages_list_their_modules(fresh):
    listed = fresh[1]
    assert {"methods", "backbones", "losses", "stages", "data", "augment", "ssl", "metrics", "load"} <= {*listed["jcl"]}
    assert {"store", "batches", "splits", "dicom"} <= {*listed["data"]}
    assert "heads" in listed["ssl"]


def test_what_is_nowhere_is_an_attribute_error():
    for module, name in ((jcl, "nothing"), (jcl.data, "nothing"), (jcl, "__wrapped__")):
        with pytest.raises(AttributeError, match=name):
            getattr(module, name)


def test_type_checkers_are_told_that_it_is_typed():
    assert (resources.files("jcl") / "py.typed").is_file()
