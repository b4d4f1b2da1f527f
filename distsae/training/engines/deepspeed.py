"""The deepspeed engine: ZeRO shards Adam's state, and with stage 2 the gradients, over the data axis.

DeepSpeed knows nothing of our mesh: it learns the data and feature groups through an `mpu`, and sharded parameters
carry the tag that makes it count their gradients on every feature rank. Without either, its results are wrong and it
says nothing: so both are checked at the start, and their effect at the first update.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from distsae.checkpoint import Streamed
from distsae.errors import WrongInput
from distsae.model import FeatureShard, project_out
from distsae.parallel import Mesh
from distsae.training.engines.deepspeed_checks import global_norm, refuse_misunderstood_mesh, refuse_other_norm
from distsae.training.engines.deepspeed_config import DeepSpeedConfig
from distsae.training.engines.optimizer import OptimizerConfig
from distsae.training.step.gradients import Gradients

__all__ = ["DeepSpeedEngine"]

_SHARDED = ("W_enc", "W_dec", "b_enc")
_MOMENTS = ("exp_avg", "exp_avg_sq")


class _MeshUnit:
    """Megatron's vocabulary for the two axes of our mesh: what DeepSpeed calls an mpu."""

    def __init__(self, mesh: Mesh) -> None:
        assert mesh.device_mesh is not None
        self._data, self._feature = mesh.device_mesh.get_group("data"), mesh.device_mesh.get_group("feature")

    def get_data_parallel_group(self) -> dist.ProcessGroup:
        return self._data

    def get_data_parallel_rank(self) -> int:
        return dist.get_rank(self._data)

    def get_data_parallel_world_size(self) -> int:
        return dist.get_world_size(self._data)

    def get_data_parallel_group_ranks(self) -> list[int]:
        return dist.get_process_group_ranks(self._data)

    def get_model_parallel_group(self) -> dist.ProcessGroup:
        return self._feature

    def get_model_parallel_rank(self) -> int:
        return dist.get_rank(self._feature)

    def get_model_parallel_world_size(self) -> int:
        return dist.get_world_size(self._feature)

    get_tensor_model_parallel_group = get_model_parallel_group
    get_tensor_model_parallel_rank = get_model_parallel_rank
    get_tensor_model_parallel_world_size = get_model_parallel_world_size

    def get_tensor_model_parallel_src_rank(self) -> int:
        return dist.get_process_group_ranks(self._feature)[0]


class DeepSpeedEngine:
    """ZeRO-1 or ZeRO-2 over the data axis, with the same step and the same results as the plain engine.

    Args:
        shard: the parameters.
        mesh: this process's place, of two processes or more.
        config: the optimizer; its state is DeepSpeed's own, in fp32.
        zero: stage and offload.

    Raises:
        WrongInput: DeepSpeed is not installed, or does not see the mesh as it is.
    """

    def __init__(self, shard: FeatureShard, mesh: Mesh, config: OptimizerConfig, zero: DeepSpeedConfig) -> None:
        self._shard, self._mesh = shard, mesh
        for name in _SHARDED:
            getattr(shard, name).tensor_model_parallel = True
        adam = torch.optim.Adam(shard.parameters(), lr=0.0, betas=(config.beta1, config.beta2), eps=config.eps)
        settings: dict[str, Any] = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": config.clip_norm or 0.0,
            "steps_per_print": 1 << 60,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "zero_optimization": {"stage": zero.zero_stage},
        }
        if zero.offload_optimizer != "none":
            settings["zero_optimization"]["offload_optimizer"] = {"device": zero.offload_optimizer}
        self._engine = _initialize(shard, adam, _MeshUnit(mesh), settings)
        refuse_misunderstood_mesh(self._engine, shard, mesh)
        self._compared = False

    @torch.no_grad()
    def update(self, gradients: Gradients, learning_rate: float) -> float:
        """Hands the gradients to DeepSpeed, which sums, clips and steps; renormalises and returns their norm.

        Raises:
            CannotContinue: at the first update, if DeepSpeed's gradient norm is not ours.
        """
        shard, ranks = self._shard, self._mesh.data.size
        found = self._dense(gradients)
        expected = None if self._compared else global_norm(found, self._mesh)
        with torch.enable_grad():
            # DeepSpeed takes gradients from autograd, and averages where ours are parts of a sum.
            surrogate = sum((p * found[name]).sum() * ranks for name, p in shard.named_parameters())
            self._engine.backward(surrogate)
        for group in self._engine.optimizer.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()
        norm = float(self._engine.get_global_grad_norm())
        if expected is not None:
            refuse_other_norm(norm, expected)
            self._compared = True
        shard.normalise_decoder()
        shard.refresh(0, gradients.features)
        from deepspeed.utils import safe_set_full_fp32_param

        # DeepSpeed steps from a copy of its own, which must hear of the new norms.
        safe_set_full_fp32_param(shard.W_dec, shard.W_dec.detach().clone())
        return norm

    def _dense(self, gradients: Gradients) -> dict[str, Tensor]:
        """Returns the gradients of this data rank's tokens by parameter."""
        shard = self._shard
        ((_, _, W_enc, W_dec),) = gradients.row_blocks(gradients.features)
        project_out(W_dec, shard.W_dec)
        b_enc = gradients.b_enc()
        b_dec = gradients.b_dec_as_decoder_bias() - self._mesh.feature.sum(b_enc @ shard.W_enc)
        return {"W_enc": W_enc, "W_dec": W_dec, "b_enc": b_enc, "b_dec": b_dec}

    def tensors(self) -> dict[str, Tensor | Streamed]:
        """Returns Adam's steps and moments as `adam.NAME.PARAMETER`; a moment is gathered when it is read."""
        inner = self._engine.optimizer.optimizer.state
        steps = [state["step"] for state in inner.values() if "step" in state]
        step = steps[0].detach().clone() if steps else torch.zeros((), dtype=torch.float32)
        state: dict[str, Tensor | Streamed] = {}
        for name, parameter in self._shard.named_parameters():
            state[f"adam.step.{name}"] = step.clone()
            for moment in _MOMENTS:
                state[f"adam.{moment}.{name}"] = Streamed(
                    tuple(parameter.shape),
                    parameter.dtype,
                    partial(self._gathered, parameter, moment),
                    partial(self._scatter, parameter, moment),
                )
        return state

    def restore(self, state: Mapping[str, object]) -> None:
        """Puts a checkpoint's steps and parameters into DeepSpeed's own partitions, where its moments are already."""
        from deepspeed.utils import safe_set_full_fp32_param

        self._make_room()
        step = state["adam.step.W_enc"]
        assert isinstance(step, Tensor)
        for moments in self._engine.optimizer.optimizer.state.values():
            moments["step"] = step.clone()  # without it the run would part from the other, and say nothing
        for _, parameter in self._shard.named_parameters():
            safe_set_full_fp32_param(parameter, parameter.detach().clone())

    def _gathered(self, parameter: torch.nn.Parameter, moment: str) -> Tensor:
        from deepspeed.utils import safe_get_full_optimizer_state

        if not self._engine.optimizer.optimizer.state:
            return torch.zeros_like(parameter)
        whole: Tensor = safe_get_full_optimizer_state(parameter, moment)
        return whole

    def _scatter(self, parameter: torch.nn.Parameter, moment: str, value: Tensor) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state

        self._make_room()
        safe_set_full_optimizer_state(parameter, value.to(parameter.device), moment)

    def _make_room(self) -> None:
        """Gives DeepSpeed the moments that it would make in its first step."""
        optimizer = self._engine.optimizer
        inner = optimizer.optimizer
        if inner.state:
            return
        for group in inner.param_groups:
            for partition in group["params"]:
                inner.state[partition] = {
                    "step": torch.zeros((), dtype=torch.float32),
                    **{moment: torch.zeros_like(partition) for moment in _MOMENTS},
                }
        optimizer._lazy_init_hp_params_optimizer_state()


def _initialize(shard: FeatureShard, adam: torch.optim.Optimizer, unit: _MeshUnit, settings: dict[str, Any]) -> Any:  # noqa: ANN401  (DeepSpeed is untyped)
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        import deepspeed
        import deepspeed.ops
    except ImportError as error:
        raise WrongInput("`engine` (=deepspeed) needs DeepSpeed; pip install 'distsae[deepspeed]'") from error
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # On CPU DeepSpeed would compile an all-reduce over shared memory first, minutes in which ranks look hung.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    engine, *_ = deepspeed.initialize(model=shard, optimizer=adam, mpu=unit, dist_init_required=False, config=settings)
    return engine
