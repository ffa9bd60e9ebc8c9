"""What a method remembers of past batches (MoCo, SwAV with small batches)."""

import torch
from torch import Tensor, nn

from jcl.ssl.host_buffer import host_scalar, register_host_scalar, set_host_scalar

__all__ = ["MemoryBank"]


class MemoryBank(nn.Module):
    """First in, first out: the last rows of one or several tensors side by side, saved and resumed as buffers.

    Examples:
        >>> queue = MemoryBank(keys=torch.zeros(3))
        >>> queue.push(keys=torch.tensor([1.0, 2.0]))
        >>> queue.push(keys=torch.tensor([3.0, 4.0]))
        >>> queue["keys"].tolist(), queue.full()
        ([4.0, 2.0, 3.0], True)
    """

    def __init__(self, **initial: Tensor) -> None:
        """Start with these rows, of which each tensor has as many."""
        super().__init__()
        for name, rows in initial.items():
            self.register_buffer(name, rows)
        register_host_scalar(self, "written", 0)
        self.size = len(next(iter(initial.values())))

    def __getitem__(self, name: str) -> Tensor:
        """The rows of a tensor, in the order of their places, not of their age."""
        return self.get_buffer(name)

    def full(self) -> bool:
        """Whether none of the rows that it started with is left."""
        return host_scalar(self, "written") >= self.size

    @torch.no_grad()
    def push(self, **rows: Tensor) -> None:
        """Overwrite the oldest rows; of a batch larger than the queue its last rows stay."""
        count = len(next(iter(rows.values())))
        kept = min(count, self.size)
        written = host_scalar(self, "written")
        places = torch.arange(written + count - kept, written + count, device=self["written"].device) % self.size
        for name, values in rows.items():
            self[name][places] = values[count - kept :].to(self[name].dtype)
        set_host_scalar(self, "written", written + count)
