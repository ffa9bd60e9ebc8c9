"""Prediction of a large CT: time beside the floor of its arithmetic, and memory beside the size of the volume.

    python benchmarks/bench_predict.py [--size 512] [--slices 200] [--width 32] [--json FILE] [--smoke]

A generated chest and a U-Net with random weights. Ours is `predict` itself, from file to file, in a process of its own
whose peak resident memory is watched. Theirs is the plain way in the same run: a loop over batches of 16 slices, NCHW,
in float32, softmax, the classes of all slices, the file read and written with SimpleITK; the loop runs over the first
`--plain` slices and its time is scaled up. The floor is the arithmetic of the convolutions at the rate of a
2048 x 2048 matrix product of the same type. The last row is `evaluate` of the same case: read from a store, segmented,
scored.

Most of the peak are the activations of a batch, whatever the volume's size. So `predict` also runs on the first
`--few` slices, and a row says how many MiB of the peak each MiB that the volume is larger costs (as float32).

200 slices of 512 x 512 take about eight minutes on two cores that multiply float32 alone.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from measuring import matrix_rate
from torch import nn

from jcl.backbones.unet import UNet
from jcl.config import EvaluateConfig, PredictConfig
from jcl.data import phantom
from jcl.data.cases import CaseSource
from jcl.data.datasets import DatasetSpec
from jcl.data.preparation import Job, make_preparation, prepare_case
from jcl.data.splits import Split, write_split
from jcl.data.store import Store
from jcl.data.store_writing import write_manifest
from jcl.distributed.device import resolve_precision
from jcl.training.run_folder import save_model, start_run

CPU = torch.device("cpu")
MIB = 1 << 20


def flops_of(network: nn.Module, size: int) -> int:
    """Multiplications and additions of the convolutions for one slice."""
    counted = 0

    def count(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal counted
        # each weight is used once a pixel: of the output, or of the input where that is the smaller
        pixels = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
        counted += 2 * module.weight.numel() * pixels.shape[-1] * pixels.shape[-2]

    convolutions = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    hooks = [convolution.register_forward_hook(count) for convolution in convolutions]
    with torch.inference_mode():
        network(torch.zeros(1, 1, size, size))
    for hook in hooks:
        hook.remove()
    return counted


def make_case(folder: Path, size: int, slices: int, width: int) -> tuple[int, UNet]:
    """A scan with its label, a store with it, and a run; returns the slices that it really has, and the network."""
    made = phantom.scan(phantom.draw_patient(0, 0), size=size, slices=slices + slices // 4 + 8, field=330)
    for name, array in (("image", made.image[:slices]), ("label", made.label[:slices])):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(made.spacing[::-1])
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"), useCompression=True)
    labels = dict(enumerate(phantom.STRUCTURES, start=1))
    spec = DatasetSpec(name="folder", labels=labels)
    recipe = {**make_preparation(spec, labels, size_given=False), "padded": [size, size]}
    (folder / "store" / "cases").mkdir(parents=True)
    files = CaseSource(case="a", patient="a", images=(folder / "image.nii.gz",), label=folder / "label.nii.gz")
    write_manifest(folder / "store", recipe, [prepare_case(Job(folder, folder / "store", files, recipe))], [])
    torch.manual_seed(0)
    network = UNet(in_channels=1, classes=len(labels) + 1, width=width).eval()
    store = Store.open(folder / "store")
    backbone = {"name": "unet", "in_channels": 1, "classes": len(labels) + 1, "width": width}
    info = {"kind": "finetune", "settings": {}, "backbone": backbone, "class_names": list(store.class_names)}
    start_run(folder / "run", {**info, "store": str(store.path), "store_digest": store.digest, "recipe": recipe})
    save_model(folder / "run", network)
    write_split(folder / "run" / "split.json", Split(("b",), (), ("a",)))
    return min(slices, len(made.image)), network


def plain(network: UNet, folder: Path, slices: int) -> float:
    """Seconds of the plain way, of which the network sees the first slices only."""
    begun = time.perf_counter()
    image = sitk.ReadImage(str(folder / "image.nii.gz"))
    volume = sitk.GetArrayFromImage(image).astype(np.float32)
    low, high = np.percentile(volume, (1, 99)).astype(np.float32)
    volume = np.clip((volume - low) / (high - low), 0, 1)
    started = time.perf_counter()
    with torch.inference_mode():
        parts = [network(torch.from_numpy(volume[at : at + 16, None])).softmax(1) for at in range(0, slices, 16)]
        few = torch.cat(parts).argmax(1).to(torch.uint8).numpy()
    ended = time.perf_counter()
    labels = np.resize(few, volume.shape)
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(folder / "plain.nii.gz"), useCompression=True)
    return time.perf_counter() - ended + (ended - started) * len(volume) / len(few) + started - begun


CHILD = """
import json, time
from pathlib import Path
from jcl.config import {config}
from jcl.stages.{stage} import {stage}
import jcl.backbones.unet
def held(field):
    # not what getrusage says, which a process has from its parent
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
Path("/proc/self/clear_refs").write_text("5")  # the peak counts anew
before, begun = held("VmRSS"), time.perf_counter()
{stage}({config}({settings}))
print(json.dumps([time.perf_counter() - begun, before, held("VmHWM")]))
"""


def in_child(stage: str, config: type[Any], settings: str) -> tuple[float, float, float]:
    """Seconds of a stage in a process of its own, and its resident memory before and at its peak, MiB."""
    code = CHILD.format(stage=stage, config=config.__name__, settings=settings)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    took, before, peak = json.loads(done.stdout.splitlines()[-1])
    return took, before, peak


def shorten(folder: Path, slices: int) -> None:
    """Write the first slices of the image as `few.nii.gz`."""
    image = sitk.ReadImage(str(folder / "image.nii.gz"))
    sitk.WriteImage(image[:, :, :slices], str(folder / "few.nii.gz"), useCompression=True)


def options_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--plain", type=int, default=16, help="slices of the plain way, a multiple of 16")
    parser.add_argument("--few", type=int, default=16, help="slices of the shorter volume, for the growth of memory")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--smoke", action="store_true", help="a small case, a small network")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    given = options_of()
    size, slices, width = (64, 20, 4) if given.smoke else (given.size, given.slices, given.width)
    precision = resolve_precision(given.precision, CPU)
    dtype = str(precision).removeprefix("torch.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slices, network = make_case(folder, size, slices, width)
        shorten(folder, given.few)
        work = slices * flops_of(network, size)
        rate = matrix_rate(precision)
        base = f"run=Path({str(folder / 'run')!r}), precision={given.precision!r}, "
        out = f", out=Path({str(folder / 'out')!r})"
        whole, few = (
            in_child("predict", PredictConfig, f"{base}source=Path({str(folder / image)!r}){out}")
            for image in ("image.nii.gz", "few.nii.gz")
        )
        theirs = plain(network, folder, min(given.plain, slices))
        scored, _, _ = in_child("evaluate", EvaluateConfig, f"{base}out=Path({str(folder / 'r.json')!r})")
    floor = work / rate
    print(f"{torch.get_num_threads()} threads; matrix products: {rate / 1e9:.0f} GFLOP/s")
    case = f"{size} x {size} x {slices}, {dtype}"
    rows = times(case, whole[0], theirs, scored, floor, min(given.plain, slices))
    rows += memory_rows(case, whole, few, size * size / MIB * 4 * np.array([slices, given.few]))
    for row in rows:
        against = f"; the plain way {row['theirs']:.1f} {row['unit']}" if row["theirs"] else ""
        print(f"{row['name']}: {row['ours']:.2f} {row['unit']}, floor {row['floor']:.1f}{against}")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


def times(case: str, ours: float, theirs: float, scored: float, floor: float, looped: int) -> list[dict[str, Any]]:
    """Rows of what predict and evaluate take; the ratio is to the floor."""
    loop = f"(beside a plain float32 loop over {looped} slices, scaled up; ratio to the floor)"
    return [
        {"row": "8", "name": f"predict {case}, file to file {loop}", "theirs": theirs, "ours": ours, "floor": floor,
         "unit": "s", "ratio": ours / floor, "goal": "<= 3"},
        {"row": "9", "name": f"evaluate {case}, store to scores (ratio to the floor)", "theirs": None, "ours": scored,
         "floor": floor, "unit": "s", "ratio": scored / floor, "goal": None},
    ]  # fmt: skip


def memory_rows(
    case: str, whole: tuple[float, float, float], few: tuple[float, float, float], volumes: np.ndarray
) -> list[dict[str, Any]]:
    """Rows of the peak of memory on top of the start, and of how it grows; `volumes` are MiB as float32."""
    more, less = (peak - before for _, before, peak in (whole, few))
    grows = (more - less) / (volumes[0] - volumes[1])
    return [
        {"row": "8", "name": f"predict {case}: peak memory on top of the start (floor: the volume as float32)",
         "theirs": None, "ours": more, "floor": volumes[0], "unit": "MiB", "ratio": more / volumes[0], "goal": None},
        {"row": "8", "name": f"predict {case}: the same for {volumes[1]:.0f} MiB of it", "theirs": None, "ours": less,
         "floor": volumes[1], "unit": "MiB", "ratio": less / volumes[1], "goal": None},
        {"row": "8", "name": f"predict {case}: memory that a MiB more of volume costs", "theirs": None, "ours": grows,
         "floor": 0.25, "unit": "MiB", "ratio": grows, "goal": "< 2"},
    ]  # fmt: skip


if __name__ == "__main__":
    main()
