"""What is given of a planned run: the store or the model is looked up, and the hardware is what the user says of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from distsae.errors import WrongInput
from distsae.language_model.model_shape import model_shape
from distsae.planning.cluster.config import PlanConfig
from distsae.planning.cluster.hardware import HARDWARE, Hardware
from distsae.planning.cluster.store_size import StoreShape, StoreSize, store_size
from distsae.planning.links import Links, WireProtocol, one_machine
from distsae.planning.measured_rates import MeasuredRates
from distsae.store import Store
from distsae.store.layout import DTYPES
from distsae.store.records import count_files

__all__ = ["PlanInputs", "hardware_of", "inputs_of", "links_of"]

_TOKENS = 1_000_000_000
"""Token rows of a corpus of unknown size."""

_HELDOUT_SHARE = 0.02
"""Share of a corpus that a producer holds out by default."""


@dataclass(frozen=True, kw_only=True)
class PlanInputs:
    """What is known of the activations.

    Args:
        d_in: their width.
        storage_bytes: bytes of a stored number.
        tokens: token rows that are trained on once in an epoch.
        heldout_rows: held-out rows.
        store: units and chunks of the store.
        size: its size; None until it is computed from its shape.
        parameters: parameters of the language model that a token passes; None if that is unknown.
    """

    d_in: int
    storage_bytes: int
    tokens: int
    heldout_rows: int
    store: StoreShape
    size: StoreSize
    parameters: float | None


def inputs_of(config: PlanConfig) -> PlanInputs:
    """Looks up what `store` and `model` tell.

    Raises:
        WrongInput: there is no such store, model or hook, or what is given contradicts it.
    """
    if config.store is not None:
        return _of_store(config)
    d_in, parameters = config.d_in, config.model_parameters
    if config.model is not None and (d_in is None or parameters is None):
        shape = model_shape(config.model, config.hook)
        d_in, parameters = d_in or shape.d_in, parameters or shape.parameters
    assert d_in is not None
    tokens = config.tokens or _TOKENS
    storage_bytes = DTYPES[config.dtype].torch.itemsize
    heldout = round(tokens * _HELDOUT_SHARE)
    store = StoreShape(
        rows=tokens + heldout,
        d_in=d_in,
        storage_bytes=storage_bytes,
        unit_rows=config.unit_rows,
        chunk_rows=config.chunk_rows,
        context_length=config.context_length,
    )
    return PlanInputs(
        d_in=d_in,
        storage_bytes=storage_bytes,
        tokens=tokens,
        heldout_rows=heldout,
        store=store,
        size=store_size(store),
        parameters=parameters,
    )


def _of_store(config: PlanConfig) -> PlanInputs:
    assert config.store is not None
    store = Store.open(config.store)
    attributes = store.attributes
    hook = config.hook
    if hook is None and len(attributes.hooks) > 1:
        raise WrongInput(
            f"`hook` must be given for the store {config.store}, which has several; use {', '.join(attributes.hooks)}"
        )
    d_in = store.d_in(hook or attributes.hooks[0])
    if config.d_in not in (None, d_in):
        raise WrongInput(f"`d_in` (={config.d_in}) must be that of the store; got {d_in} there; leave it out")
    shape = StoreShape(
        rows=store.rows + store.heldout_rows,
        d_in=d_in,
        storage_bytes=DTYPES[attributes.dtype].torch.itemsize,
        unit_rows=attributes.unit_rows,
        chunk_rows=attributes.chunk_rows,
        context_length=attributes.context_length,
        excluded_positions=attributes.excluded_positions,
        hooks=len(attributes.hooks),
    )
    units = store.committed()
    files, folders = count_files(units)
    size = sum(file.size for unit in units for file in unit.files.values())
    return PlanInputs(
        d_in=d_in,
        storage_bytes=shape.storage_bytes,
        tokens=config.tokens or store.rows,
        heldout_rows=store.heldout_rows,
        store=shape,
        size=StoreSize(size, files, files + folders, len(units)),
        parameters=config.model_parameters,
    )


def hardware_of(config: PlanConfig, rates: MeasuredRates | None) -> Hardware:
    """Returns the hardware, with what the user says of it in place of what is usual.

    Raises:
        WrongInput: the check measured another kind of device.
    """
    measured = None if rates is None else rates.sizes.device
    found = HARDWARE[config.hardware or ("cpu" if measured == "cpu" else "h100")]
    if measured is not None and (measured == "cuda") != found.gpu:
        raise WrongInput(
            f"`hardware` (={found.name}) must be what the check measured; got the check of a {measured}; use "
            f"{'a GPU' if measured == 'cuda' else 'cpu'}, or leave it out"
        )
    node = config.gpus_per_node or min(found.node_size, config.gpus)
    host = found.host_bytes if config.host_gb is None else round(config.host_gb * 2**30)
    memory = found.memory_bytes if config.memory_gb is None else round(config.memory_gb * 2**30)
    if not found.gpu and config.memory_gb is not None and config.host_gb is None:
        host = memory * node
    found = replace(found, node_size=node, memory_bytes=memory, host_bytes=host)
    if config.network_gb_per_second is not None:
        found = replace(found, between=config.network_gb_per_second * 1e9)
    if config.disk_gb_per_second is not None:
        found = replace(found, disk=config.disk_gb_per_second * 1e9)
    return found


def links_of(hardware: Hardware, rates: MeasuredRates | None) -> Links:
    """Returns the links between devices: those inside a machine as they were measured, if they were."""
    if rates is None or rates.exchange_bytes is None:
        return Links(
            inside=hardware.inside,
            between=hardware.between,
            node_size=hardware.node_size,
            protocols=hardware.protocols,
        )
    inside = one_machine(
        rates.exchange_bytes, rates.exchange_latency or 0.0, hardware.node_size, max(rates.exchanging, 2)
    )
    step = inside.protocols[0].inside
    crossing = min(way.between for way in hardware.protocols if not way.tree and way.share == 1)
    return replace(
        inside, between=hardware.between, protocols=(WireProtocol(False, 0.0, step, max(step, crossing), 1.0),)
    )
