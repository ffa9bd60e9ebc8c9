"""The dense loss, forward and backward, beside a loop over positions and a plain batched product.

    python benchmarks/bench_dense_loss.py [--json FILE] [--smoke]

16 slices (32 rows), 128 channels, 32 x 32 positions. The floor is two products of shape (1024, 32, 128) x (1024,
128, 32) at the measured rate of such products, and the features read twice and their gradient written once at the
measured bandwidth.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import entry, write_json
from torch import Tensor
from torch.nn import functional as F

from jcl.losses.contrastive import info_nce, position_mask
from jcl.losses.dense import dense_info_nce


def median_ms(run: Callable[[], object], repeats: int) -> float:
    """Median time of a call in milliseconds, after one call to warm up."""
    run()
    times: list[float] = []
    for _ in range(repeats):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return 1000 * statistics.median(times)


def loop(rows: Tensor, positives: Tensor) -> Tensor:
    """One image loss a position, as the authors' program is described to do it."""
    normalised = F.normalize(rows, dim=1)
    total = rows.new_zeros(())
    for y in range(rows.shape[2]):
        for x in range(rows.shape[3]):
            z = normalised[:, :, y, x]
            logits = z @ z.T / 0.1
            logits = logits - torch.eye(len(z)) * 1e9
            log_probability = logits - torch.logsumexp(logits, dim=1, keepdim=True)
            total = total - ((positives * log_probability).sum(1) / positives.sum(1).clamp(min=1)).mean()
    return total / (rows.shape[2] * rows.shape[3])


def plain(rows: Tensor, positives: Tensor) -> Tensor:
    """One batched product with PyTorch's own gradient."""
    z = F.normalize(rows, dim=1).permute(2, 3, 0, 1).flatten(0, 1)
    logits = z @ z.mT / 0.1
    logits = logits.masked_fill(torch.eye(z.shape[1], dtype=torch.bool), -1e9)
    log_probability = logits - torch.logsumexp(logits, dim=2, keepdim=True)
    return -((positives * log_probability).sum(2) / positives.sum(1).clamp(min=1)).mean()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a small size, once: only whether it runs")
    parser.add_argument("--json", type=Path, help="write the results here")
    given = parser.parse_args()
    smoke = given.smoke
    size, repeats = (4, 1) if smoke else (32, 15)
    torch.manual_seed(0)
    positives = position_mask((torch.arange(16) / 16).repeat(2), 0.1)
    rows = torch.randn(32, 128, size, size)
    last = rows.clone().contiguous(memory_format=torch.channels_last)
    rows.requires_grad_()
    last.requires_grad_()
    other = last.detach().flip(0).contiguous(memory_format=torch.channels_last).requires_grad_()

    def both(loss: Callable[[], Tensor]) -> Callable[[], None]:
        def run() -> None:
            rows.grad = last.grad = other.grad = None
            loss().backward()

        return run

    cases = {
        "loop over positions": lambda: loop(rows, positives.float()),
        "plain batched product": lambda: plain(rows, positives.float()),
        "ours, joint": lambda: dense_info_nce(last, last, positives, temperature=0.1),
        "ours, joint, not channels-last": lambda: dense_info_nce(rows, rows, positives, temperature=0.1),
        "ours, cross": lambda: dense_info_nce(last, other, positives, temperature=0.1),
    }
    assert abs(loop(rows, positives.float()) - info_nce_mean(rows, positives)) < 1e-3
    slow = median_ms(both(cases["loop over positions"]), 1 if smoke else 3)
    left, right = torch.randn(size * size, 32, 128), torch.randn(size * size, 128, 32)
    product = median_ms(lambda: torch.bmm(left, right), repeats)
    copy = median_ms(lambda: left.clone(), repeats)
    floor = 2 * product + 1.5 * copy
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    results: list[dict[str, object]] = []
    for name, loss in cases.items():
        took = slow if name.startswith("loop") else median_ms(both(loss), repeats)
        print(f"{name:32s} {took:9.1f} ms  {slow / took:6.0f} x")
        if name.startswith("ours"):
            results.append(
                entry("1", f"dense loss, {name}", slow, took, floor, 150.0 if name == "ours, joint" else 60.0)
            )
    print(f"{'floor':32s} {floor:9.1f} ms")
    write_json(given.json, results)


def info_nce_mean(rows: Tensor, positives: Tensor) -> Tensor:
    """The same value from the image loss, position by position."""
    height, width = rows.shape[2:]
    values = [
        info_nce(rows[:, :, y, x], rows[:, :, y, x], positives, temperature=0.1)
        for y in range(height)
        for x in range(width)
    ]
    return torch.stack(values).mean()


if __name__ == "__main__":
    main()
