"""The whole state of a training, parameter by parameter: out of DeepSpeed's files of any ZeRO stage and number of
processes, and into an engine of any other.

The layouts are those of DeepSpeed 0.19. Its own way, universal checkpoints, unpickles what it reads, and under ZeRO-3
gives the settings of the first group, weight decay included, to all; here nothing is executed, and all stages are read
alike. memory: files are mapped, so one parameter at a time, 12 bytes each of its numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mindllm.config import RunFailed
from mindllm.engine.files import read_state
from mindllm.stage import read_json

MOMENTS = ("exp_avg", "exp_avg_sq")
FULL = "full-*.pt"  # files of whole states, one for a parameter
REST = "rest.pt"  # beside them: what of the model is no parameter of its own, or is not trained
MODEL = "mp_rank_00_model_states.pt"  # DeepSpeed's, of all weights; ZeRO-3 has one for each process instead
NAMES = "parameter_names"  # in the files of ZeRO-0: the names of each group's parameters, in AdamW's order


class Full(NamedTuple):
    """A parameter: its weights in fp32 and AdamW's moments, all of its shape, and how many updates were made."""

    name: str
    step: float
    fp32: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor


def is_full(folder: Path) -> bool:
    """Whether a checkpoint holds whole states, which any engine can load."""
    return REST in (read_json(folder / "meta.json") or {}).get("files", {})


def read_full(folder: Path) -> dict[str, Full]:
    """The whole states in a checkpoint, by parameter; mapped, not read, where it is one of them.

    memory: else 12 bytes a parameter.
    """
    mapped = (Full(**read_state(path, mapped=True)) for path in sorted(folder.glob(FULL)))
    return {full.name: full for full in (mapped if is_full(folder) else full_states(folder))}


def full_states(folder: Path) -> Iterator[Full]:
    """All parameters of a checkpoint that are trained. Raises RunFailed for files that are not those of one run."""
    parts = [read_state(path, mapped=True)["optimizer_state_dict"] for path in by_rank(folder, "*_optim_states.pt")]
    if not parts:
        yield from _of_stage_0(read_state(folder / MODEL, mapped=True))
        return
    if any(part.keys() != parts[0].keys() for part in parts) or _world(parts[0]) != len(parts):
        raise RunFailed(f"{folder}: not the files of one run, with one for every process")
    if "fp32_flat_groups" in parts[0]:
        model = read_state(by_rank(folder, "*zero_pp_rank_*_model_states.pt")[0], mapped=True)
        yield from _of_stage_3(model["param_shapes"], parts)
    else:
        model = read_state(folder / MODEL, mapped=True)
        yield from _of_stages_1_and_2(model["param_shapes"], parts)


def by_rank(folder: Path, pattern: str) -> list[Path]:
    """DeepSpeed's files in the order of the processes, which their names count without leading zeros."""
    return sorted(folder.glob(pattern), key=lambda path: int(path.name.split("pp_rank_")[1].split("_")[0]))


def _world(part: Mapping[str, Any]) -> int:
    count = part["partition_count"]
    return int(count if isinstance(count, int) else count[0])  # ZeRO-1 and 2 say it for each group


def _of_stage_0(model: Mapping[str, Any]) -> Iterator[Full]:
    """Whole tensors, numbered through the groups."""
    if NAMES not in model:
        raise RunFailed(
            "this checkpoint of ZeRO-0 is of an older version, and does not say which moments belong to which weights; "
            "go on with as many processes as before up to the next checkpoint, and reshard that one"
        )
    for number, name in enumerate(name for group in model[NAMES] for name in group):
        weight = model["module"][name].float()
        (state,) = _states([model["optimizer"]["state"]], number, [weight])
        yield Full(name, float(state["step"]), weight, *(state[key] for key in MOMENTS))


def _of_stages_1_and_2(shapes: list[Mapping[str, torch.Size]], parts: list[Mapping[str, Any]]) -> Iterator[Full]:
    """Groups laid end to end, and cut into one stretch a process; each says where in its own a parameter's part is."""
    for group, names in enumerate(shapes):
        flats = [[part["single_partition_of_fp32_groups"][group] for part in parts]]
        states = _states([part["base_optimizer_state"]["state"] for part in parts], group, flats[0])
        flats += [[state[key] for state in states] for key in MOMENTS]
        for name, shape in names.items():
            places = [part["param_slice_mappings"][group].get(name) for part in parts]
            tensors = [
                torch.cat([f.narrow(0, p.start, p.numel) for f, p in zip(flat, places, strict=True) if p is not None])
                for flat in flats
            ]
            yield Full(name, float(states[0]["step"]), *(tensor.view(shape) for tensor in tensors))


def _of_stage_3(shapes: list[Mapping[str, torch.Size]], parts: list[Mapping[str, Any]]) -> Iterator[Full]:
    """Each parameter cut into one stretch a process, all of one length; a process's stretches lie end to end."""
    for group, names in enumerate(shapes):
        flats = [[part["fp32_flat_groups"][group] for part in parts]]
        states = _states([part["optimizer_state_dict"]["state"] for part in parts], group, flats[0])
        flats += [[state[key] for state in states] for key in MOMENTS]
        start = 0
        for name, shape in names.items():
            length = -(-shape.numel() // len(parts))
            tensors = [torch.cat([f.narrow(0, start, length) for f in flat])[: shape.numel()] for flat in flats]
            yield Full(name, float(states[0]["step"]), *(tensor.view(shape) for tensor in tensors))
            start += length


def _states(found: list[Mapping[int, Any]], number: int, weights: list[Tensor]) -> list[Mapping[str, Any]]:
    """AdamW's state of some weights in every process; that of the start where no update has been made yet."""
    return [
        states[number] if number in states else {"step": 0.0, **{key: torch.zeros_like(weight) for key in MOMENTS}}
        for states, weight in zip(found, weights, strict=True)
    ]


def fill(engine: Any, zero_stage: int, rank: int, state_of: Callable[[str], Full]) -> None:
    """Put whole states into a DeepSpeed engine, each process its part. All processes call it."""
    names = {parameter: name for name, parameter in engine.module.named_parameters()}

    def full_of(parameter: nn.Parameter) -> Full:
        return state_of(names[parameter])

    if zero_stage == 3:
        _fill_stage_3(engine.optimizer, full_of, rank)
    else:
        (_fill_stages_1_and_2 if zero_stage else _fill_stage_0)(engine.optimizer, full_of)


_StateOf = Callable[[nn.Parameter], Full]


def _fill_stage_0(optimizer: torch.optim.Optimizer, state_of: _StateOf) -> None:
    for parameter in (p for group in optimizer.param_groups for p in group["params"]):
        full = state_of(parameter)
        parameter.data.copy_(full.fp32)
        optimizer.state[parameter] = _moments(parameter, full.step)
        for key in MOMENTS:
            optimizer.state[parameter][key].copy_(getattr(full, key))


def _fill_stages_1_and_2(zero: Any, state_of: _StateOf) -> None:
    bf16 = hasattr(zero, "bf16_groups")  # DeepSpeed has another class for ZeRO-1 in bf16
    flats = zero.fp32_groups_flat_partition if bf16 else zero.single_partition_of_fp32_groups
    for flat, parameters in zip(flats, zero.bf16_groups if bf16 else zero.bit16_groups, strict=True):
        state = _moments(flat, 0.0)
        for parameter in (p for p in parameters if p._hp_mapping is not None):  # this process has a part of it
            full, mapping = state_of(parameter), parameter._hp_mapping
            there, here = mapping.lp_fragment_address, mapping.hp_fragment_address
            for key, target in (("fp32", flat.data), *((key, state[key]) for key in MOMENTS)):
                part = getattr(full, key).flatten().narrow(0, there.start, there.numel)
                target.narrow(0, here.start, here.numel).copy_(part)
            state["step"].fill_(full.step)
        zero.optimizer.state[flat] = state
    zero.update_lp_params()


def _fill_stage_3(zero: Any, state_of: _StateOf, rank: int) -> None:
    for number, (flat, parameters) in enumerate(zip(zero.fp32_partitioned_groups_flat, zero.fp16_groups, strict=True)):
        state, start = _moments(flat, 0.0), 0
        for parameter in parameters:
            full, length = state_of(parameter), parameter.ds_tensor.numel()
            for key, target in (("fp32", flat.data), *((key, state[key]) for key in MOMENTS)):
                part = getattr(full, key).flatten()[rank * length : (rank + 1) * length]
                target.narrow(0, start, len(part)).copy_(part)
            state["step"].fill_(full.step)
            start += length
        zero.optimizer.state[flat] = state
        zero._reassign_or_swap_out_partitioned_parameters(number)
    if zero.persistent_parameters:  # small ones are kept whole
        zero.persistent_parameters[0].all_gather(zero.persistent_parameters)


def _moments(parameter: Tensor, step: float) -> dict[str, Tensor]:
    """AdamW's state of a parameter, as torch makes it for its fused kernels."""
    state = {key: torch.zeros_like(parameter.data) for key in MOMENTS}
    return {"step": torch.tensor(step, dtype=torch.float32, device=parameter.device), **state}
