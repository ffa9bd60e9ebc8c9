"""Pieces and holes: compared with a flood fill of our own."""

import itertools

import numpy as np
import pytest

from jcl.inference.postprocess import Rules, Tidied, postprocess, rules_of
from jcl.training.shapes import holes

FACES = [s for s in itertools.product((-1, 0, 1), repeat=3) if sum(map(abs, s)) == 1]
ALL = [s for s in itertools.product((-1, 0, 1), repeat=3) if any(s)]


def flood(mask: np.ndarray, steps) -> list[set[tuple[int, ...]]]:
    left, found = {tuple(p) for p in np.argwhere(mask).tolist()}, []
    while left:
        part, todo = set(), [min(left)]
        left.discard(todo[0])
        while todo:
            place = todo.pop()
            part.add(place)
            for step in steps:
                near = tuple(a + b for a, b in zip(place, step, strict=True))
                if near in left:
                    left.discard(near)
                    todo.append(near)
        found.append(part)
    return found


def slow(classes: np.ndarray, rules: Rules) -> np.ndarray:
    out = classes.copy()
    for value in rules.one_piece:
        parts = flood(out == value, ALL)
        for part in parts:
            if parts and part is not max(parts, key=len):
                for place in part:
                    out[place] = 0
    shape = out.shape
    filled = out.copy()
    for part in flood(out == 0, FACES):
        around, open_ = set(), False
        for place, step in itertools.product(part, FACES):
            near = tuple(a + b for a, b in zip(place, step, strict=True))
            if any(not 0 <= n < side for n, side in zip(near, shape, strict=True)):
                open_ = True
            elif out[near]:
                around.add(int(out[near]))
        if not open_ and len(around) == 1 and around <= set(rules.without_holes):
            for place in part:
                filled[place] = around.copy().pop()
    return filled


@pytest.mark.parametrize("seed", range(8))
def test_as_by_a_flood_fill(seed: int):
    random = np.random.default_rng(seed)
    classes = random.choice([0, 1, 2], size=(5, 7, 6), p=[0.3, 0.55, 0.15] if seed % 2 else [0.55, 0.3, 0.15])
    if seed == 6:
        classes[:] = 1
        classes[1:4, 2:5, 2:4] = 0
    classes = classes.astype(np.uint8)
    rules = Rules((1, 2), (1,))
    expected = slow(classes, rules)
    before = classes.copy()
    said = postprocess(classes, rules)
    np.testing.assert_array_equal(classes, expected)
    assert said.removed == ((before > 0) & (classes == 0)).sum()
    assert said.filled == ((before == 0) & (classes > 0)).sum() or said.pieces


def test_a_hole_belongs_to_one_structure_alone():
    classes = np.ones((5, 9, 9), np.uint8)
    classes[2, 2, 2] = 0  # of the first
    classes[2, 5, 5], classes[2, 5, 6] = 0, 2  # between two
    classes[0, 7, 7] = 0  # open
    numbered, owners = holes(classes)
    assert owners[numbered[2, 2, 2]] == 1
    assert owners[numbered[2, 5, 5]] == owners[numbered[0, 7, 7]] == owners[0] == 0
    assert postprocess(classes, Rules((), (1,))) == Tidied(holes=1, filled=1)
    assert (classes[2, 2, 2], classes[2, 5, 5], classes[0, 7, 7]) == (1, 0, 0)


@pytest.mark.parametrize("value", [0, 1])
def test_nothing_to_do(value: int):
    classes = np.full((3, 4, 4), value, np.uint8)
    assert postprocess(classes, Rules((1, 2), (1, 2))) == Tidied()
    assert (classes == value).all()


def test_all_runs_have_to_agree_and_to_know():
    one = {"class_names": ["A", "B"], "one_piece": ["A", "B"], "without_holes": ["B"]}
    assert rules_of([one]) == Rules((1, 2), (2,))
    assert rules_of([one, {**one, "one_piece": ["B"]}]) == Rules((2,), (2,))
    assert not rules_of([one, {"class_names": ["A", "B"]}])


def test_what_was_done_in_words():
    total = sum([Tidied(2, 10), Tidied(0, 0, 1, 3)], Tidied())
    assert str(total) == "2 pieces (10 voxels) removed, 1 holes (3 voxels) filled"
