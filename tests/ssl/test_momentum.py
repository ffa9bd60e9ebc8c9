import copy

import pytest
import torch
from torch import nn

from jcl.ssl.momentum import cosine_momentum, make_teacher, update_ema


def test_a_teacher_is_a_copy_without_gradient():
    student = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    teacher = make_teacher(student)
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), student.parameters(), strict=True))
    assert not any(p.requires_grad for p in teacher.parameters())
    student[0].weight.data.zero_()
    assert teacher[0].weight.any()


def test_following_by_hand():
    student = nn.Linear(2, 2)
    teacher = make_teacher(student)
    old = copy.deepcopy(teacher.weight)
    nn.init.constant_(student.weight, 1.0)
    update_ema(teacher, student, 0.75)
    assert torch.allclose(teacher.weight, 0.75 * old + 0.25)


def test_statistics_stay_the_teachers_own():
    student = nn.BatchNorm1d(2)
    teacher = make_teacher(student)
    student(torch.randn(8, 2) + 5)
    update_ema(teacher, student, 0.5)
    assert not teacher.running_mean.any()


@pytest.mark.parametrize(("progress", "momentum"), [(0.0, 0.99), (0.5, 0.995), (1.0, 1.0)])
def test_the_momentum_rises_to_one(progress, momentum):
    assert cosine_momentum(progress, 0.99) == pytest.approx(momentum)
