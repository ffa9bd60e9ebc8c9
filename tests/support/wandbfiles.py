"""What a run file of W&B (`*.wandb`) holds: records in the blocks of a LevelDB log."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEAD = 32768, 7
FULL, LAST = 1, 4
"""Kinds of pieces after which a record is whole."""


def records(path: Path) -> Iterator[Any]:
    """Its records, in order."""
    from wandb.proto import wandb_internal_pb2

    data, at, whole = path.read_bytes(), HEAD, b""
    assert data[:4] == b":W&B"
    while at + HEAD <= len(data):
        if BLOCK - at % BLOCK < HEAD:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEAD])
        whole += data[at + HEAD : at + HEAD + length]
        at += HEAD + length
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record
