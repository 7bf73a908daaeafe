"""The only door to DeepSpeed: process group, gradients, optimizer, ZeRO, checkpoint files. No other file imports it.

The DeepSpeed JSON is derived from TrainConfig; extra keys pass through, contradicting ones are refused. DeepSpeed
divides the loss by the accumulation steps and averages over processes; `backward` undoes both, so that a gradient is
the plain sum over the global batch of what the caller handed in. Its ops that would be compiled at first use (80 s on
a CPU) are off.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # before the import: it looks for a device and warns otherwise

import deepspeed
import torch.distributed as dist
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointEngine
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address
from torch import Tensor, nn

from mindllm.config import RunFailed, UserError

# Keys of DeepSpeed's JSON that follow from TrainConfig, or would change what it says.
DERIVED_KEYS = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps",
                "managed_gradient_accumulation", "gradient_clipping", "optimizer", "scheduler", "bf16", "fp16", "amp",
                "torch_autocast", "data_types", "communication_data_type")  # fmt: skip
DERIVED_ZERO_KEYS = ("stage", "compute_grad_norm")
# The classes in DeepSpeed's files beside tensors and plain values: a constant, an enumeration, a place in a buffer.
_IN_FILES = [LossScaler, ZeroStageEnum, fragment_address]


def init_distributed() -> tuple[int, int, torch.device]:
    """Join the process group of the launcher (or a group of one); returns (rank, number of processes, device)."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("MASTER_PORT", "0" if os.environ["WORLD_SIZE"] == "1" else "29500")
    compatible = getattr(deepspeed.ops, "__compatible_ops__", {})
    compatible["deepspeed_shm_comm"] = False  # would be compiled at first use; gloo does the same
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    with _quiet():
        deepspeed.init_distributed(dist_backend=backend, verbose=False)
    local = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return dist.get_rank(), dist.get_world_size(), device


class Engine:
    """A model and its AdamW under DeepSpeed.

    accumulation: the most micro-batches per process that make an optimizer step; `begin` says which is the last one.
    """

    def __init__(
        self, model: nn.Module, groups: list[dict[str, Any]], *, precision: str, zero_stage: int, micro_batch_size: int,
        accumulation: int, max_grad_norm: float, betas: tuple[float, float], eps: float, extra: Mapping[str, Any],
    ):  # fmt: skip
        self.accumulation, self.world = accumulation, dist.get_world_size()
        optimizer = torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=eps, fused=True)
        settings = {
            "train_micro_batch_size_per_gpu": micro_batch_size,
            "gradient_accumulation_steps": accumulation,
            "gradient_clipping": max_grad_norm,
            # at once: a gradient in bf16 is added to the sums in fp32 and given up, 2 bytes a parameter less
            "bf16": {"enabled": precision == "bf16", "immediate_grad_update": precision == "bf16"},
            "data_types": {"grad_accum_dtype": "fp32"},
            "communication_data_type": "fp32",  # gradients are added up over processes in it, too
            "steps_per_print": 1 << 60,
            **extra,
            "zero_optimization": {**extra.get("zero_optimization", {}), "stage": zero_stage},
        }
        self._own_norm = zero_stage == 0  # there DeepSpeed clips, but does not say the norm
        if zero_stage == 0 and precision == "bf16":
            # DeepSpeed's own bf16 has no fp32 master weights without ZeRO and drifts (a loss of 6.166 for 6.144);
            # autocast has: weights, gradients and AdamW in fp32, products in bf16
            settings["bf16"] = {"enabled": False}
            device_type = next(model.parameters()).device.type
            model.forward = torch.autocast(device_type, torch.bfloat16)(model.forward)
        with _quiet():
            self._engine = deepspeed.initialize(
                model=model, optimizer=optimizer, config=settings, dist_init_required=False
            )[0]
        if type(self._engine.checkpoint_engine) is not TorchCheckpointEngine:
            raise UserError(
                "train.deepspeed: checkpoint.writer and datastates would replace what writes checkpoints here"
            )
        self._files = self._engine.checkpoint_engine = _Files()
        if zero_stage == 0 and self.world == 1:
            self._engine.enable_backward_allreduce = False  # it copies all gradients twice to add up one process's

    @property
    def model(self) -> nn.Module:
        """What to call for a forward pass."""
        return self._engine

    def begin(self, last: bool) -> None:
        """Say before a forward pass whether it is the last micro-batch of its step."""
        self._engine.set_gradient_accumulation_boundary(last)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of `loss` (this process's part of a global sum).

        After the last micro-batch of a step the update is left to `step`.
        """
        self._engine.backward(loss * (self.accumulation * self.world))
        if not self._engine.is_gradient_accumulation_boundary():
            self._engine.step()

    def step(self, lr: float) -> float:
        """Clip and update with this learning rate; returns the norm of the global gradient before clipping."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        gradients = [p.grad for p in self._engine.parameters() if p.grad is not None] if self._own_norm else []
        norm = torch.nn.utils.get_total_norm(gradients)
        self._engine.step()
        return float(norm if self._own_norm else self._engine.get_global_grad_norm())  # sync: one number a step

    def collect(self, folder: Path, tag: str) -> dict[Path, Any]:
        """What this process has to write into folder/tag: state by file. Makes the folder; every process must call it.

        The states hold the tensors that training goes on changing: write or copy them before the next step.
        """
        with _quiet():
            self._engine.save_checkpoint(str(folder), tag=tag, save_latest=False)
        if dist.get_rank() == 0:
            for script in ("zero_to_fp32.py", "zero_to_torch.py"):  # copies of its converters, in every run folder
                (folder / script).unlink(missing_ok=True)
        states, self._files.states = self._files.states, {}
        return states

    def load(self, folder: Path, tag: str) -> None:
        """Restore weights and optimizer from folder/tag. Raises RuntimeError when DeepSpeed finds nothing to load.

        Nothing in the files is executed (read_state); only where the extra key checkpoint.load_universal is given,
        DeepSpeed unpickles by itself: universal checkpoints have to be trusted.
        """
        with _quiet():
            path, _ = self._engine.load_checkpoint(str(folder), tag=tag)
        if path is None:
            raise RuntimeError(f"{folder / tag}: DeepSpeed could not load this checkpoint")


class _Files(CheckpointEngine):
    """In the place of DeepSpeed's own writer and reader of files: keeps what it would write, reads tensors only."""

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[Path, Any] = {}

    def create(self, info: Any) -> None:
        """A checkpoint begins."""
        self.states = {}

    def save(self, state_dict: Any, path: str) -> None:
        """Keep what belongs into a file; mindllm.checkpoint writes it."""
        self.states[Path(path)] = state_dict

    def load(self, path: str, map_location: Any = None) -> Any:
        """The state in a file, in the host's memory, from where DeepSpeed copies it into place."""
        return read_state(Path(path))

    def commit(self, info: Any) -> bool:
        """DeepSpeed has handed over everything."""
        return True


def read_state(path: Path, mapped: bool = False) -> Any:
    """The state in one of DeepSpeed's files, on the CPU; nothing in it is executed, whatever it holds.

    mapped: tensors are read from the disk when they are used, and must not be changed.  Raises RunFailed for a file
    with other classes than DeepSpeed's records (torch.load's weights_only).
    """
    with torch.serialization.safe_globals(_IN_FILES):
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except pickle.UnpicklingError as error:
            found = re.search(r"GLOBAL ([\w.]+)", str(error))
            what = f"{found[1]} in it" if found else str(error).splitlines()[0]
            raise RunFailed(
                f"{path}: not loaded, it holds more than tensors and DeepSpeed's records ({what})"
            ) from None


def add_up(values: list[int] | list[float] | Tensor, device: torch.device) -> Tensor:
    """Numbers added up over all processes, in double precision, on the device: nothing waits for them yet."""
    tensor = torch.as_tensor(values, dtype=torch.float64)
    tensor = tensor.to(device, non_blocking=True) if tensor.device != device else tensor.clone()
    dist.all_reduce(tensor)
    return tensor


def from_rank_zero(value: Any) -> Any:
    """The object that rank 0 holds, on every rank."""
    box = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(box, src=0)
    return box[0]


def from_every_rank(value: Any) -> list[Any]:
    """The objects that the ranks hold, in their order, on every rank."""
    values = [value] * world_size()
    if dist.is_initialized():
        dist.all_gather_object(values, value)
    return values


def rank() -> int:
    """Of this process; before it has joined its group, the launcher's word."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Number of processes that work together; 1 for one that has joined no group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def shutdown() -> None:
    """Leave the process group, so that the interpreter can end quietly.

    gloo's threads outlive it (DeepSpeed keeps handles) and may be dropping the last tensors still; one that does so
    while the interpreter ends aborts the process (pytorch issue 190489), so they get a moment.
    """
    if dist.is_initialized():
        uses_gloo = dist.get_backend() == "gloo"
        dist.destroy_process_group()
        if uses_gloo:
            time.sleep(0.2)


def load_weights(folder: Path, zero_stage: int) -> dict[str, Tensor]:
    """The model's weights by name (fp32, CPU) from a checkpoint folder; nothing in its files is executed.

    Up to ZeRO-2 every process holds them all as its forward pass saw them, so they are read from one file. ZeRO-3
    scatters them: there the fp32 parts of all processes are put together.
    """
    if zero_stage == 3:
        return _gathered_weights(folder)
    state = read_state(folder / "mp_rank_00_model_states.pt")
    return {name: weight.float() for name, weight in state["module"].items()}


def _gathered_weights(folder: Path) -> dict[str, Tensor]:
    """Weights of a ZeRO-3 checkpoint: every process has one stretch of each, in the order of `param_shapes`.

    The stretches of a process lie one after the other, whatever groups they are cut into, and have the same length in
    all; the last one is filled up. Frozen weights lie in the model's files, shared ones under one of their names.
    memory: 8 bytes a parameter at most. Equal to deepspeed.utils.zero_to_fp32, which would unpickle.
    """
    models = [read_state(path, mapped=True) for path in _by_rank(folder, "*zero_pp_rank_*_model_states.pt")]
    parts = [read_state(path, mapped=True)["optimizer_state_dict"] for path in _by_rank(folder, "*_optim_states.pt")]
    if not models or len(models) != len(parts) or any(part["partition_count"] != len(parts) for part in parts):
        raise RunFailed(f"{folder}: not the files of one ZeRO-3 run")
    flat = [torch.cat([group.flatten() for group in part["fp32_flat_groups"]]) for part in parts]
    first, start = models[0], 0
    buffers = {name: first["module"][name] for name in first["buffer_names"]}
    weights = {name: b.float() if b.is_floating_point() else b.clone() for name, b in buffers.items()}
    for name, shape in (first.get("frozen_param_shapes") or {}).items():
        pieces = [model["frozen_param_fragments"][name].flatten() for model in models]
        weights[name] = torch.cat(pieces)[: shape.numel()].view(shape)
    for name, shape in ((name, shape) for group in first["param_shapes"] for name, shape in group.items()):
        length = -(-shape.numel() // len(flat))
        weights[name] = torch.cat([part[start : start + length] for part in flat])[: shape.numel()].view(shape)
        start += length
    if start != len(flat[0]):
        raise RunFailed(f"{folder}: holds {len(flat[0])} numbers for each process where its shapes need {start}")
    return weights | {name: weights[other] for name, other in first["shared_params"].items() if other in weights}


def _by_rank(folder: Path, pattern: str) -> list[Path]:
    """DeepSpeed's files in the order of the processes, which their names count without leading zeros."""
    return sorted(folder.glob(pattern), key=lambda path: int(path.name.split("pp_rank_")[1].split("_")[0]))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """DeepSpeed prints to stdout while it sets up; errors still come as exceptions and on stderr."""
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):
        yield
