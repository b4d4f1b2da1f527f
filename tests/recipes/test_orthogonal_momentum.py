import pytest
import torch

from distsae.recipes.orthogonal_momentum import OrthogonalMomentum


@pytest.mark.parametrize("shape", [(12, 12), (8, 32), (32, 8)])
def test_a_step_has_singular_values_of_about_one(shape):
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.zeros(shape))
    parameter.grad = torch.randn(shape) @ torch.diag(torch.logspace(0, -1, shape[1]))
    OrthogonalMomentum([parameter], lr=1.0, weight_decay=0.0).step()
    scale = max(1.0, shape[1] / shape[0]) ** 0.5
    values = torch.linalg.svdvals(parameter.detach()) / scale
    assert values.max() < 1.3
    assert values.median() > 0.6


def test_the_loss_falls_for_matrices_of_several_shapes():
    torch.manual_seed(0)
    first, second = torch.nn.Parameter(torch.randn(6, 10)), torch.nn.Parameter(torch.randn(10, 4))
    target = torch.randn(6, 4)
    optimizer = OrthogonalMomentum([first, second], lr=0.02, weight_decay=0.0)
    losses = []
    for _ in range(150):
        loss = (first @ second - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_weight_decay_shrinks_the_matrices():
    parameter = torch.nn.Parameter(torch.ones(4, 4))
    parameter.grad = torch.zeros(4, 4)
    OrthogonalMomentum([parameter], lr=0.5, weight_decay=0.1).step()
    assert torch.allclose(parameter, torch.full((4, 4), 0.95))
