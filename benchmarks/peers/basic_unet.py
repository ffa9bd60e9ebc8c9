"""MONAI's BasicUNet on slices, trained with MONAI's transforms, loss and sliding window for some minutes.

    python basic_unet.py train RAW MODEL --minutes 5      # RAW is a folder in nnU-Net's raw format
    python basic_unet.py predict RAW MODEL --out FOLDER

It follows MONAI's own tutorial of 2-D segmentation where that says something: crops about foreground and background
in turn, 4 of each image, Adam at 1e-3, a sliding window as large as the crops. Beyond it, since the labels are few:
Dice and cross-entropy together, more augmentation (mirroring, turning, scaling, contrast, brightness, noise), a
learning rate that falls to 0 with the time, and windows that overlap by half. Volumes keep their own resolution.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import DataLoader, Dataset, list_data_collate
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet
from monai.transforms import (
    Compose,
    NormalizeIntensity,
    RandAdjustContrastd,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandRotated,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandZoomd,
    SpatialPadd,
)

sys.path.insert(0, str(Path(__file__).parents[1]))  # it runs as a program of its own, so that its clock is its own

from peers.limited.clock import Limit

LARGEST = 192
RATE = 1e-3
IMAGES, CROPS = 2, 4
BOTH = ("image", "label")


def read(path: Path) -> np.ndarray:
    """A volume (x, y, slices)."""
    return np.asanyarray(nib.nifti1.load(path).dataobj)


def slices_of(raw: Path) -> list[dict[str, torch.Tensor]]:
    """Every slice of the training volumes, each volume brought to mean 0 and deviation 1."""
    found: list[dict[str, torch.Tensor]] = []
    for path in sorted((raw / "labelsTr").glob("*.nii.gz")):
        image, label = volume_of(raw / "imagesTr", path.name.removesuffix(".nii.gz")), read(path)
        for number in range(label.shape[2]):
            part = torch.from_numpy(label[None, :, :, number].astype(np.int64))
            found.append({"image": image[:, :, :, number], "label": part})
    return found


def volume_of(folder: Path, case: str) -> torch.Tensor:
    """All channels of a case (c, x, y, slices), each of mean 0 and deviation 1."""
    channels = [read(path).astype(np.float32) for path in sorted(folder.glob(f"{case}_[0-9][0-9][0-9][0-9].nii.gz"))]
    return torch.as_tensor(NormalizeIntensity(channel_wise=True)(np.stack(channels)))


def patch_of(slices: list[dict[str, torch.Tensor]]) -> tuple[int, int]:
    """Crops as large as the slices, up to `LARGEST`, in the multiples of 16 that the network takes."""
    shapes = np.array([each["image"].shape[1:] for each in slices])
    sides = [min(LARGEST, 16 * max(1, round(float(np.median(shapes[:, axis])) / 16))) for axis in (0, 1)]
    return sides[0], sides[1]


def transforms(patch: tuple[int, int]) -> Compose:
    """Random crops, changed in space and intensity."""
    modes = ("bilinear", "nearest")
    return Compose(
        [
            SpatialPadd(BOTH, patch),
            RandRotated(BOTH, range_x=0.5, prob=0.5, mode=modes, padding_mode="zeros"),
            RandZoomd(BOTH, prob=0.3, min_zoom=0.75, max_zoom=1.3, mode=modes, align_corners=(True, None)),
            RandCropByPosNegLabeld(BOTH, "label", patch, pos=1, neg=1, num_samples=CROPS, allow_smaller=False),
            RandFlipd(BOTH, prob=0.5, spatial_axis=0),
            RandFlipd(BOTH, prob=0.5, spatial_axis=1),
            RandScaleIntensityd("image", 0.25, prob=0.3),
            RandShiftIntensityd("image", 0.1, prob=0.3),
            RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5)),
            RandGaussianNoised("image", prob=0.15, std=0.1),
        ]
    )


def network_of(about: dict[str, Any]) -> BasicUNet:
    """The network with MONAI's own widths."""
    return BasicUNet(2, about["channels"], about["classes"] + 1)


def train(raw: Path, model: Path, minutes: float, seed: int) -> None:
    """Train until the time is used up; writes the weights and what was done."""
    limit = Limit(minutes)
    torch.manual_seed(seed)
    described = json.loads((raw / "dataset.json").read_text())
    slices = slices_of(raw)
    patch = patch_of(slices)
    about = {"channels": len(described["channel_names"]), "classes": len(described["labels"]) - 1, "patch": patch}
    network = network_of(about).train()
    change = transforms(patch)
    change.set_random_state(seed)
    loader = DataLoader(
        Dataset(slices, change), batch_size=min(IMAGES, len(slices)), shuffle=True, collate_fn=list_data_collate
    )
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True)
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    losses: list[float] = []
    batches = iter(loader)
    while limit.another():
        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
            batch = next(batches)
        for group in optimiser.param_groups:
            group["lr"] = limit.fallen(RATE)
        optimiser.zero_grad()
        loss = loss_of(network(batch["image"].as_tensor()), batch["label"].as_tensor())
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    model.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), model / "weights.pt")
    done = {"steps": limit.steps, "core_seconds": limit.clock(), "loss": losses[:: max(1, len(losses) // 50)]}
    (model / "about.json").write_text(json.dumps({**about, "batch": IMAGES * CROPS, **done}))


def predict(raw: Path, model: Path, out: Path) -> None:
    """Segment the test volumes, on their own grids."""
    about = json.loads((model / "about.json").read_text())
    network = network_of(about).eval()
    network.load_state_dict(torch.load(model / "weights.pt", weights_only=True))
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted((raw / "imagesTs").glob("*_0000.nii.gz")):
        case = path.name.removesuffix("_0000.nii.gz")
        volume = volume_of(raw / "imagesTs", case).movedim(3, 0)
        parts: list[torch.Tensor] = []
        with torch.inference_mode():
            for some in volume.split(4):
                scores = sliding_window_inference(some, about["patch"], 4, network, overlap=0.5, mode="gaussian")
                parts.append(torch.as_tensor(scores).argmax(1).to(torch.uint8))
        source = nib.nifti1.load(path)
        image = nib.nifti1.Nifti1Image(torch.cat(parts).movedim(0, 2).numpy(), None, source.header)
        image.set_data_dtype(np.uint8)
        image.header.set_slope_inter(1, 0)
        nib.save(image, out / f"{case}.nii.gz")


def main() -> None:
    """Train, or predict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "predict"))
    parser.add_argument("raw", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.filterwarnings("ignore", "Num foregrounds")  # a slice without a structure: crops are taken anywhere
    if given.what == "train":
        train(given.raw, given.model, given.minutes, given.seed)
    else:
        predict(given.raw, given.model, given.out)


if __name__ == "__main__":
    main()
