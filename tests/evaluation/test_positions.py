import torch

from distsae.evaluation.positions import Positions

TOKENS = torch.zeros(2, 4, dtype=torch.int64)


def test_from_a_position_on():
    assert Positions.from_position(1, TOKENS).chosen.tolist() == [[False, True, True, True]] * 2
    assert Positions.from_position(0, TOKENS).rows.all()


def test_some_tokens_are_not_chosen():
    tokens = torch.tensor([[5, 1, 2, 5], [3, 5, 3, 4]])
    assert Positions.from_position(1, tokens, (5, 2)).chosen.int().tolist() == [[0, 1, 0, 0], [0, 0, 1, 1]]


def test_only_chosen_positions_are_replaced():
    chosen = torch.tensor([[False, True, False, True], [False, False, False, True]])
    activations = torch.arange(24.0).reshape(2, 4, 3)
    replaced = Positions(chosen, 1).replaced(activations, torch.full((3,), -1.0))
    assert (replaced[chosen] == -1).all()
    assert torch.equal(replaced[~chosen], activations[~chosen])
    half = Positions(chosen, 1).replaced(activations.half(), torch.full((2, 4, 3), 0.1))
    assert half.dtype == torch.float16


def test_totals_of_rows_and_of_predictions():
    chosen = torch.tensor([[False, True, False, True], [False, False, False, True]])
    positions = Positions(chosen, 1)
    by_row = torch.tensor([[1.0, 2.0, 4.0, 8.0], [1.0, 2.0, torch.nan, 8.0]])
    assert positions.total(by_row).tolist() == [10.0, 8.0]
    assert positions.total(by_row[:, :3]).tolist() == [2.0, 0.0]  # the last position predicts nothing
    assert positions.total(by_row).dtype == torch.float64


def test_some_contexts():
    chosen = torch.tensor([[False, True, False, True], [False, False, False, True]])
    assert Positions(chosen, 1).of(torch.tensor([1])).chosen.tolist() == [[False, False, False, True]]
    assert Positions(chosen, 1).of(slice(0, 1)).first == 1
