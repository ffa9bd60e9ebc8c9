"""Import: a checkpoint of the authors' programs as the run folder of a pre-training."""

import hashlib
from pathlib import Path

from jcl.config import ImportConfig
from jcl.errors import DataError, UsageError
from jcl.settings import as_mapping
from jcl.training.authors_layout import NETWORK, adopt, program_of
from jcl.training.foreign_checkpoint import read_checkpoint
from jcl.training.logger import log_rank0
from jcl.training.run_folder import only_writer, save_weights, start_run


def import_weights(config: ImportConfig) -> Path:
    """Write the encoder of `config.file`, and the decoder where it has one, as a run for `finetune --init`.

    Returns the run folder.

    Raises:
        UsageError: the folder exists.
        DataError: the file cannot be read, would run code, or is not what the program writes.
    """
    if config.out.exists():
        raise UsageError(f"{config.out} exists; choose another --out")
    weights = read_checkpoint(config.file)
    try:
        program = config.origin or program_of(weights)
        adopted = adopt(weights, program)
    except DataError as error:
        raise DataError(f"{config.file}: {error}") from error
    info = {
        "kind": "pretrain",
        "backbone": {"name": NETWORK, "in_channels": adopted.in_channels, "classes": 2, "width": adopted.width},
        "transfers": list(adopted.parts),
        "stores": [],
        "imported": {"program": program, "sha256": hashlib.sha256(config.file.read_bytes()).hexdigest()},
        "settings": as_mapping(config),
    }
    with only_writer(config.out):
        start_run(config.out, info)
        save_weights(config.out, {f"backbone.{name}": tensor for name, tensor in adopted.weights.items()})
    log_rank0(
        f"{program}: {', '.join(adopted.parts)} of {NETWORK}, width {adopted.width}, channels {adopted.in_channels}; "
        f"{len(adopted.weights)} tensors"
    )
    return config.out
