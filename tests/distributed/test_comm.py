"""What two processes do together; tests/methods/test_contract.py shows that every method trains the same on both."""

from pathlib import Path

import torch
from torch import nn

from jcl.distributed.comm import (
    any_rank,
    average_gradients,
    gather,
    gather_states,
    rank,
    rank_generator,
    same_everywhere,
    world_size,
)
from support.groups import in_two_processes


def test_one_process_has_its_own_rows():
    rows = torch.randn(3, 2)
    assert world_size() == 1
    assert gather(rows) is rows


def test_two_processes_have_the_rows_of_both_and_the_gradient_of_their_own(tmp_path):
    in_two_processes(gather_and_save, tmp_path)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    wanted = torch.cat([local_rows(0), local_rows(1)]).requires_grad_()
    wanted.pow(3).sum().backward()
    for number in range(2):
        assert torch.equal(found[number]["rows"], wanted)
        assert torch.equal(found[number]["gradient"], 2 * wanted.grad[3 * number : 3 * number + 3])


def local_rows(number: int) -> torch.Tensor:
    return torch.randn(3, 2, generator=torch.Generator().manual_seed(number))


def gather_and_save(number: int, folder: Path) -> None:
    own = local_rows(number).requires_grad_()
    rows = gather(own)
    rows.pow(3).sum().backward()
    torch.save({"rows": rows.detach(), "gradient": own.grad}, folder / f"{number}.pt")


def test_gradients_states_and_votes_of_two(tmp_path):
    in_two_processes(meet_and_save, tmp_path)
    first, second = (torch.load(tmp_path / f"{number}.pt") for number in range(2))
    for name in ("convolution", "bias"):
        assert torch.equal(first[name], second[name])
        assert torch.allclose(first[name], (gradient(0, name) + gradient(1, name)) / 2)
    assert first["unused"] is None
    assert torch.equal(first["states"], second["states"])
    assert torch.equal(first["states"][1], second["state"])
    assert first["votes"] == second["votes"] == (True, False)
    assert first["draw"] != second["draw"]
    assert first["dropout"] != second["dropout"]


def parameters(number: int) -> dict[str, nn.Parameter]:
    """Laid out as trainings have them: channels-last, plain, and one that gets no gradient."""
    made = {
        "convolution": nn.Parameter(torch.zeros(3, 2, 2, 2).contiguous(memory_format=torch.channels_last)),
        "bias": nn.Parameter(torch.zeros(5)),
        "unused": nn.Parameter(torch.zeros(2)),
    }
    for name in ("convolution", "bias"):
        made[name].grad = gradient(number, name).contiguous(
            memory_format=torch.channels_last if name == "convolution" else torch.contiguous_format
        )
    return made


def gradient(number: int, name: str) -> torch.Tensor:
    shape = (3, 2, 2, 2) if name == "convolution" else (5,)
    return torch.randn(shape, generator=torch.Generator().manual_seed(10 * number + len(name)))


def meet_and_save(number: int, folder: Path) -> None:
    assert rank() == number
    own = parameters(number)
    average_gradients(own.values())
    generator = rank_generator(0)
    state = generator.get_state()
    saved = {
        **{name: parameter.grad for name, parameter in own.items()},
        "state": state,
        "states": gather_states(state),
        "votes": any_rank(number == 1, False),
        "draw": torch.rand((), generator=generator).item(),
        "dropout": torch.rand(()).item(),
    }
    torch.save(saved, folder / f"{number}.pt")


def test_one_process_decides_and_draws_alone():
    assert any_rank(True, False) == (True, False)
    state = rank_generator(3).get_state()
    assert torch.equal(state, torch.Generator().manual_seed(3).get_state())
    assert gather_states(state) is state


def test_whether_two_have_the_same(tmp_path):
    in_two_processes(compare_and_save, tmp_path)
    assert [torch.load(tmp_path / f"{number}.pt") for number in range(2)] == [[True, False]] * 2
    assert same_everywhere(object())


def compare_and_save(number: int, folder: Path) -> None:
    torch.save([same_everywhere({"seed": 0}), same_everywhere({"seed": number})], folder / f"{number}.pt")
