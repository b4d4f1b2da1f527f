"""Members are trained in as few sweeps as cover each of them once and fit into memory."""

from itertools import product

import pytest

from distsae.recipes.study.grid import Member
from distsae.recipes.study.jobs import jobs_of, sweep_over
from distsae.recipes.study.methods import Method
from distsae.training import TrainConfig
from distsae.training.sweep import members as members_of_sweep

METHOD = Method(name="m")


def _base(tmp_path):
    return TrainConfig(store="s", out=str(tmp_path / "m"), seed=7, order_seed=9)


def _members(*values):
    return [Member(METHOD, d_sae, k, lr, seed) for d_sae, k, lr, seed in values]


def test_a_sweep_names_and_configures_its_members_as_the_study_does(tmp_path):
    block = _members(*product((64, 128), (4, 8), (1e-3, "auto", 3e-5), (0, 1)))
    found = members_of_sweep(sweep_over(_base(tmp_path), block))
    assert set(found) == {member.name for member in block}
    for member in block:
        config = found[member.name]
        own = (config.sae.d_sae, config.sae.k, config.optimizer.lr, config.seed)
        assert own == (member.d_sae, member.k, member.lr, member.seed)
        assert config.seed_of_order == 9
        assert config.out.endswith(f"/{member.path}")


@pytest.mark.parametrize(
    ("values", "sizes"),
    [
        (list(product((64,), (4, 8), (0.1, 0.2), (0,))), [4]),
        (list(product((64, 128), (4,), (0.1, 0.2), (0,))), [2, 2]),  # one width a job
        ([(64, 4, 0.1, 1), (64, 4, 0.1, 2), (64, 8, 0.1, 1), (64, 8, 0.1, 2), (64, 16, 0.2, 1)], [4, 1]),
        ([(64, 4, 0.1, 0), (64, 4, 0.2, 0), (64, 8, 0.2, 0)], [1, 2]),  # one of the four has finished
        ([], []),
    ],
)
def test_members_that_are_all_combinations_share_a_sweep(tmp_path, values, sizes):
    jobs = jobs_of(_base(tmp_path), _members(*values), fits=lambda _: True)
    assert sorted(len(job.members) for job in jobs) == sorted(sizes)
    _check_cover(jobs, values)


def _check_cover(jobs, values):
    trained = [name for job in jobs for name in members_of_sweep(job.config)]
    assert sorted(trained) == sorted(member.name for member in _members(*values))
    for job in jobs:
        assert set(members_of_sweep(job.config)) == {member.name for member in job.members}


@pytest.mark.parametrize("most", [1, 2, 3, 5, 100])
def test_no_job_is_larger_than_allowed(tmp_path, most):
    values = list(product((64,), (4, 8, 16), (0.1, 0.2), (0, 1)))
    by_limit = jobs_of(_base(tmp_path), _members(*values), fits=lambda _: True, most=most)
    by_memory = jobs_of(_base(tmp_path), _members(*values), lambda config: len(members_of_sweep(config)) <= most)
    for jobs in (by_limit, by_memory):
        assert max(len(job.members) for job in jobs) <= most
        _check_cover(jobs, values)


def test_a_single_member_is_tried_even_if_it_does_not_fit(tmp_path):
    assert len(jobs_of(_base(tmp_path), _members((64, 4, 0.1, 0)), fits=lambda _: False)) == 1
