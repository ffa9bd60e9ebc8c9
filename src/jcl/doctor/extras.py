"""Optional packages: which are there, and what the others are for."""

import importlib
import importlib.util

from jcl.doctor.findings import Finding, broken

__all__ = ["EXTRAS", "NEEDED", "check_needed", "list_extras"]

EXTRAS = {
    "completion": (("shtab",), "tab completion in the shell (jcl --print-completion)"),
    "dicom-seg": (("highdicom",), "results as DICOM-SEG objects (predict --dicom-seg)"),
    "hub": (("huggingface_hub",), "models from and for the Hugging Face Hub (export --push)"),
    "mlflow": (("mlflow",), "trainings that report to an MLflow server (--tracker mlflow)"),
    "monai": (("monai", "nibabel", "ignite", "fire"), "MONAI bundles, and networks of MONAI (export --to monai)"),
    "onnx": (("onnx", "onnxruntime", "onnxscript"), "ONNX models (export --to onnx)"),
    "ray": (("ray",), "work on a cluster (prepare and benchmark --ray)"),
    "serve": (("fastapi", "uvicorn", "python_multipart"), "segmenting in a browser, and from 3D Slicer (serve)"),
    "wandb": (("wandb",), "trainings that report to Weights & Biases (--tracker wandb)"),
}
"""By the name of each extra, the modules that it brings, and what they are for."""

NEEDED = (
    "numpy", "scipy", "SimpleITK", "pydicom", "PIL", "zstandard", "safetensors", "filelock", "jaxtyping", "rich",
    "jinja2", "matplotlib", "tensorboard", "torch",
)  # fmt: skip
"""Modules that jcl does not work without."""


def list_extras() -> dict[str, dict[str, str | bool]]:
    """Of each extra: whether it is there, what it is for, and the line that installs it."""
    return {
        name: {
            "there": all(importlib.util.find_spec(module) for module in modules),
            "for": purpose,
            "install": f"pip install 'jcl-seg[{name}]'",
        }
        for name, (modules, purpose) in EXTRAS.items()
    }


def check_needed() -> list[Finding]:
    """Those that cannot be imported, each with the reason."""
    findings: list[Finding] = []
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except Exception as error:  # a damaged installation fails in whatever way it likes
            said = " ".join(str(error).split())[:200]
            findings.append(
                broken(f"{name} cannot be imported ({said}); install it again: pip install --force-reinstall jcl-seg")
            )
    return findings
