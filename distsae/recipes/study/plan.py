"""A study that was checked as far as it can be before any work: its methods, cells, and the config of each."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from distsae.errors import WrongInput
from distsae.evaluation.config import EvaluateConfig
from distsae.evaluation.inputs import open_inputs
from distsae.model import SAE, SAEConfig
from distsae.recipes.from_keys import FromKeys
from distsae.recipes.study.config import GridConfig, Rate, StudyConfig
from distsae.recipes.study.grid import GridCell, Member, cells_of
from distsae.recipes.study.jobs import sweep_over
from distsae.recipes.study.methods import Method, methods_of
from distsae.recipes.study.peers import PEERS, Peer, check_peer, check_peer_folder
from distsae.store import Store
from distsae.training import TrainConfig
from distsae.training.train import checked

__all__ = ["StudyPlan", "check_evaluation", "planned"]


@dataclass(frozen=True)
class StudyPlan:
    """What is trained and evaluated.

    Args:
        config: keys of the study.
        store: the store.
        cells: the lines of the table, in its order.
        bases: config of each method by its name, with `hook` and `steps`; its `out` is the folder of its members.
        evaluation: config of the evaluations; `run` is to be replaced.
    """

    config: StudyConfig
    store: Store
    cells: tuple[GridCell, ...]
    bases: Mapping[str, TrainConfig]
    evaluation: EvaluateConfig

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods, in the order of the table."""
        return tuple({cell.method.name: cell.method for cell in self.cells}.values())

    def cells_of(self, method: Method) -> tuple[GridCell, ...]:
        """Returns the cells of a method."""
        return tuple(cell for cell in self.cells if cell.method.name == method.name)

    def folder(self, member: Member) -> Path:
        """Returns the folder of a member."""
        return Path(self.bases[member.method.name].out) / member.name

    def tokens(self, member: Member) -> int:
        """Returns the number of tokens that a member is trained on."""
        base = self.bases[member.method.name]
        assert base.steps is not None
        return base.steps * base.batch_tokens

    def work(self, member: Member) -> int:
        """Returns what a member costs, in tokens times features; kinds of methods are not told apart."""
        return self.tokens(member) * member.d_sae

    def size_of(self, cell: GridCell, rate: Rate) -> float | None:
        """Returns a learning rate of a cell as a number; None for `auto` of a peer, which only the peer knows."""
        if cell.method.peer is not None and rate == "auto":
            return None
        base = self.bases[cell.method.name]
        assert base.steps is not None
        return dataclasses.replace(base.optimizer, lr=rate).peak_rate(cell.d_sae, base.steps)


def planned(config: StudyConfig, from_keys: FromKeys, peers: Mapping[str, Peer] = PEERS) -> StudyPlan:
    """Checks the keys of a study against each other, the store and the folders of its members; nothing is written.

    Args:
        config: keys of the study.
        from_keys: function that builds the configs of trainings and evaluations.
        peers: peers by name.

    Raises:
        WrongInput: the study cannot be carried out as given.
    """
    store = Store.open(config.store)
    methods = methods_of(config.methods, config.common)
    grids = [config.grid] if isinstance(config.grid, dict) else list(config.grid)
    with _in("grid"):
        cells = cells_of(methods, [from_keys(GridConfig, grid) for grid in grids])
    bases = {}
    for method in methods:
        with _in(f"method {method.name}"):
            own = [cell for cell in cells if cell.method is method]
            base = _base(config, method, own, from_keys)
            if method.peer is not None:
                check_peer(method, config.peers_python, peers)
                base = _checked_peer(method, base, own, peers)
            else:
                base = _checked(base, own)
            bases[method.name] = base
    if not store.heldout_rows and any(len(cell.rates) > 1 or cell.method.peer for cell in cells):
        raise WrongInput(
            f"`store` (={config.store}) must have held-out rows, to choose learning rates by and to calibrate peers; "
            "got none; produce a store with held-out rows, or give one rate in each `lr` and no peer"
        )
    for key in ("run", "store", "out"):
        if key in config.evaluate:
            raise WrongInput(f"`{key}` must not be in evaluate, because the study gives it; leave it out")
    with _in("evaluate"):
        trusted = {"trust_remote_code": True} if config.trust_remote_code else {}
        evaluation = from_keys(EvaluateConfig, {**config.evaluate, **trusted, "run": "", "store": config.store})
    return StudyPlan(config, store, cells, bases, evaluation)


def _base(config: StudyConfig, method: Method, cells: list[GridCell], from_keys: FromKeys) -> TrainConfig:
    """Returns the config that all members of a method share, checked for each of them."""
    out = str(Path(config.out) / "members" / method.folder)
    keys = {"wandb": "off", **method.keys, "store": config.store, "out": out}
    if not any(key.startswith("mesh.") for key in keys):
        keys["mesh.feature"] = config.processes or 1
    if method.peer is not None:  # its rows are normalised elsewhere; the store must have what that needs
        keys["normalise"] = "token" if method.normalise == "token" else "none"
    sizes = {"sae.d_sae": max(cell.d_sae for cell in cells), "sae.k": min(cell.k for cell in cells)}
    base = from_keys(TrainConfig, {**keys, **sizes})
    if config.processes is not None and config.processes != base.mesh.data * base.mesh.feature:
        raise WrongInput(
            f"`processes` (={config.processes}) must be `mesh.data` * `mesh.feature` (={base.mesh.data} * "
            f"{base.mesh.feature}); leave it out, or correct the mesh"
        )
    return base


def _checked(base: TrainConfig, cells: list[GridCell]) -> TrainConfig:
    """Returns a config with `hook` and `steps`, after checking it and the folder of every member that is planned."""
    for cell in cells:
        members = [cell.trials, *(cell.repeats(rate) for rate in cell.rates)]
        found = [checked(sweep_over(base, block))[1] for block in members]
    resolved = next(iter(found[0].values()))
    return dataclasses.replace(base, hook=resolved.hook, steps=resolved.steps)


def _checked_peer(method: Method, base: TrainConfig, cells: list[GridCell], peers: Mapping[str, Peer]) -> TrainConfig:
    """The same for a method that a peer trains."""
    _, found = checked(dataclasses.replace(base, out=f"{base.out}/none"))
    base = dataclasses.replace(next(iter(found.values())), out=base.out)
    for cell in cells:
        for member in (member for rate in cell.rates for member in cell.repeats(rate)):
            check_peer_folder(member, base, Path(base.out) / member.name, peers)
    return base


def check_evaluation(plan: StudyPlan) -> None:
    """Opens model and text of the evaluations with an SAE of the right shape, so that they do not fail after hours.

    Raises:
        WrongInput: model, store or text is missing, or they do not belong together.
    """
    base = plan.bases[plan.methods[0].name]
    assert base.hook is not None
    d_in = plan.store.d_in(base.hook)
    cfg = SAEConfig(
        d_in=d_in,
        d_sae=1,
        k=1,
        allocation="token_choice",
        hook_name=base.hook,
        hook_layer=None,
        model_name=plan.store.attributes.model,
        context_size=plan.store.attributes.context_length,
        prepend_bos=plan.store.attributes.prepend_bos,
    )
    stand_in = SAE(cfg, torch.zeros(d_in, 1), torch.zeros(1, d_in), torch.zeros(1), torch.zeros(d_in))
    with tempfile.TemporaryDirectory() as folder, _in("evaluate"):
        stand_in.save(folder)
        open_inputs(dataclasses.replace(plan.evaluation, run=folder))


@contextmanager
def _in(place: str) -> Iterator[None]:
    """Adds to a wrong input what it was found in."""
    try:
        yield
    except WrongInput as error:
        raise WrongInput(f"{place}: {error}") from error
