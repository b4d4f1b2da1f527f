"""The deepspeed engine: ZeRO shards Adam's state, and with stage 2 the gradients, over the data axis.

DeepSpeed gets the groups of the mesh from an `mpu` object, and sharded parameters carry a tag that makes it count their
gradients on every feature rank. If either is missing, its results are wrong without any error. So both are checked at
the start, and their effect at the first update.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from distsae.checkpoint import Shard, Streamed
from distsae.model import FeatureShard, project_out
from distsae.parallel import Mesh
from distsae.training.engines.deepspeed_checks import global_norm, refuse_misunderstood_mesh, refuse_other_norm
from distsae.training.engines.deepspeed_config import DeepSpeedConfig
from distsae.training.engines.deepspeed_package import working_deepspeed
from distsae.training.engines.optimizer import OptimizerConfig
from distsae.training.step.gradients import Gradients

__all__ = ["DeepSpeedEngine"]

_SHARDED = ("W_enc", "W_dec", "b_enc")
_MOMENTS = ("exp_avg", "exp_avg_sq")
_RATE = "relative_rate"
"""Key of a parameter group: its learning rate as a multiple of that of the step."""


class _MeshMpu:
    """The mesh as an `mpu` for DeepSpeed, with Megatron's names: the feature axis is the model-parallel one."""

    def __init__(self, mesh: Mesh) -> None:
        assert mesh.device_mesh is not None
        self._data = mesh.device_mesh.get_group("data")
        self._feature = mesh.device_mesh.get_group("feature")

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
    """ZeRO-1 or ZeRO-2 over the data axis, with the results of the plain engine up to rounding.

    Args:
        shard: parameters to update.
        mesh: the mesh, as this rank sees it, of at least two processes.
        config: settings of Adam, whose moments are in fp32.
        zero: settings of ZeRO.

    Raises:
        WrongInput: DeepSpeed is not installed, does not work here, or has other groups than the mesh.
    """

    def __init__(self, shard: FeatureShard, mesh: Mesh, config: OptimizerConfig, zero: DeepSpeedConfig) -> None:
        self._shard = shard
        self._mesh = mesh
        for name in _SHARDED:
            getattr(shard, name).tensor_model_parallel = True
        others = [parameter for name, parameter in shard.named_parameters() if name != "W_dec"]
        groups = [{"params": others, _RATE: 1.0}, {"params": [shard.W_dec], _RATE: config.decoder_rate}]
        adam = torch.optim.Adam(groups, lr=0.0, betas=(config.beta1, config.beta2), eps=config.eps)
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
        with working_deepspeed(shard.b_dec.device) as deepspeed:
            self._engine, *_ = deepspeed.initialize(
                model=shard, optimizer=adam, mpu=_MeshMpu(mesh), dist_init_required=False, config=settings
            )
        refuse_misunderstood_mesh(self._engine, shard, mesh)
        self._norm_compared = False
        # DeepSpeed would link them after the update of the first group, when the second has none.
        self._create_moments()

    @torch.no_grad()
    def update(self, gradients: Gradients, learning_rate: float) -> float:
        """Passes the gradients to DeepSpeed, which sums, clips and updates; then renormalises; see `Engine.update`.

        Raises:
            CannotContinue: at the first update, DeepSpeed's gradient norm is not that of the gradients.
        """
        shard, ranks = self._shard, self._mesh.data.size
        dense = self._dense(gradients)
        expected = None if self._norm_compared else global_norm(dense, self._mesh)
        with torch.enable_grad():
            # DeepSpeed takes gradients from autograd, and averages them over data ranks, where a sum is wanted.
            surrogate = sum((p * dense[name]).sum() * ranks for name, p in shard.named_parameters())
            self._engine.backward(surrogate)
        for group in self._engine.optimizer.optimizer.param_groups:
            group["lr"] = learning_rate * group[_RATE]
        self._engine.step()
        norm = float(self._engine.get_global_grad_norm())
        if expected is not None:
            refuse_other_norm(norm, expected)
            self._norm_compared = True
        shard.normalise_decoder()
        shard.refresh_prefilter(0, gradients.features)
        from deepspeed.utils import safe_set_full_fp32_param

        # DeepSpeed updates a copy of its own, which must get the normalised rows as well.
        safe_set_full_fp32_param(shard.W_dec, shard.W_dec.detach().clone())
        return norm

    def take_over_encoder(self) -> None:
        """Copies the encoder rows into DeepSpeed's partitions, from which it would otherwise restore the old ones."""
        from deepspeed.utils import safe_set_full_fp32_param

        safe_set_full_fp32_param(self._shard.W_enc, self._shard.W_enc.detach().clone())

    def _dense(self, gradients: Gradients) -> dict[str, Tensor]:
        """Returns the gradients from the tokens of this data rank as matrices, by parameter. Collective."""
        shard = self._shard
        ((_, _, W_enc, W_dec),) = gradients.row_blocks(gradients.features)
        project_out(W_dec, shard.W_dec)
        b_enc = gradients.b_enc()
        b_dec = gradients.b_dec_as_decoder_bias() - self._mesh.feature.sum(b_enc @ shard.W_enc)
        return {"W_enc": W_enc, "W_dec": W_dec, "b_enc": b_enc, "b_dec": b_dec}

    def tensors(self) -> dict[str, Tensor | Streamed | Shard]:
        """Returns Adam's steps and moments as `adam.NAME.PARAMETER`; a moment is gathered when it is read."""
        inner = self._engine.optimizer.optimizer.state
        step = next(iter(inner.values()))["step"]
        tensors: dict[str, Tensor | Streamed | Shard] = {}
        for name, parameter in self._shard.named_parameters():
            tensors[f"adam.step.{name}"] = step.clone()
            for moment in _MOMENTS:
                tensors[f"adam.{moment}.{name}"] = Streamed(
                    tuple(parameter.shape),
                    parameter.dtype,
                    partial(self._gathered, parameter, moment),
                    partial(self._scatter, parameter, moment),
                )
        return tensors

    def restore(self, tensors: Mapping[str, object]) -> None:
        """Copies the checkpoint's steps and parameters into DeepSpeed's partitions, which have its moments already."""
        from deepspeed.utils import safe_set_full_fp32_param

        step = tensors["adam.step.W_enc"]
        assert isinstance(step, Tensor)
        for of_partition in self._engine.optimizer.optimizer.state.values():
            of_partition["step"] = step.clone()  # otherwise bias correction would start again
        for _, parameter in self._shard.named_parameters():
            safe_set_full_fp32_param(parameter, parameter.detach().clone())

    def _gathered(self, parameter: torch.nn.Parameter, moment: str) -> Tensor:
        """Returns a moment of all rows of a parameter, gathered from the data ranks. Collective."""
        from deepspeed.utils import safe_get_full_optimizer_state

        whole: Tensor = safe_get_full_optimizer_state(parameter, moment)
        return whole

    def _scatter(self, parameter: torch.nn.Parameter, moment: str, value: Tensor) -> None:
        """Sets this rank's partition of a moment from the moment of all rows of the parameter."""
        from deepspeed.utils import safe_set_full_optimizer_state

        safe_set_full_optimizer_state(parameter, value.to(parameter.device), moment)

    def _create_moments(self) -> None:
        """Creates the moments that DeepSpeed would create at its first update."""
        optimizer = self._engine.optimizer
        inner = optimizer.optimizer
        for group in inner.param_groups:
            for partition in group["params"]:
                inner.state[partition] = {
                    "step": torch.zeros((), dtype=torch.float32),
                    **{moment: torch.zeros_like(partition) for moment in _MOMENTS},
                }
        optimizer._lazy_init_hp_params_optimizer_state()
