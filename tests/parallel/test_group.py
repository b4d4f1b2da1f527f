"""Collectives on real process groups."""

import torch

from tests.distributed.processes import run_on_mesh


def _collectives(mesh):
    rank = mesh.world.rank
    results = {}
    for name in ("data", "feature", "world"):
        group = getattr(mesh, name)
        results[name] = {
            "sum": group.sum(torch.tensor([float(rank), 1.0], dtype=torch.float64)),
            "max": group.max(torch.tensor([rank, -rank])),
            "gather": group.gather(torch.full((rank, 2), rank)),  # rank 0 has no rows
            "empty": group.gather(torch.zeros(0, 3)),
        }
    return results


def test_sum_max_and_gather_of_uneven_parts():
    groups = {  # ranks in the group of each rank of a 2x2 mesh, by axis
        "data": [(0, 2), (1, 3), (0, 2), (1, 3)],
        "feature": [(0, 1), (0, 1), (2, 3), (2, 3)],
        "world": [(0, 1, 2, 3)] * 4,
    }
    for rank, results in enumerate(run_on_mesh(_collectives, (2, 2))):
        for axis, found in results.items():
            members = groups[axis][rank]
            assert found["sum"].tolist() == [sum(members), len(members)]
            assert found["sum"].dtype == torch.float64
            assert found["max"].tolist() == [max(members), -min(members)]
            assert [part.tolist() for part in found["gather"]] == [[[member] * 2] * member for member in members]
            assert [tuple(part.shape) for part in found["empty"]] == [(0, 3)] * len(members)


def _flags(mesh):
    gathered = mesh.world.gather(torch.tensor([mesh.world.rank], dtype=torch.uint8))
    return torch.cat(gathered).tolist(), mesh.world.sum(torch.tensor(2)).item()


def test_bytes_and_numbers_without_dimension():
    assert run_on_mesh(_flags, (4, 1)) == [([0, 1, 2, 3], 8)] * 4
