#!/usr/bin/env bash
# A virtual environment with nnU-Net v2 and PyTorch, for the comparisons: bash make_environment.sh FOLDER
#
# nnU-Net's dependencies are listed here and its own packages installed without theirs: they bring torchvision (by way of
# timm, which the 2-D U-Net does not use), and with it a CUDA build of several GB, or one that does not fit this PyTorch.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: bash $0 FOLDER" >&2; exit 2; }
python=${PYTHON:-python3}
torch=${TORCH:-torch==2.13.0}

"$python" -m venv "$1"
"$1/bin/python" -m pip install --quiet --disable-pip-version-check "$torch" \
  numpy scipy scikit-image scikit-learn SimpleITK nibabel pandas seaborn matplotlib requests tqdm tifffile imagecodecs \
  einops yacs blosc2 connected-components-3d future threadpoolctl importlib_resources graphviz
"$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
  nnunetv2==2.8.1 dynamic-network-architectures==0.4.4 batchgenerators==0.25.5 batchgeneratorsv2==0.3.6 acvl-utils==0.2.6
"$1/bin/python" -c 'from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer'
echo "$1: nnU-Net $("$1/bin/python" -c 'from importlib.metadata import version; print(version("nnunetv2"))') is ready"
