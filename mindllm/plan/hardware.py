"""The devices that a plan computes with: how many, how fast, how much memory.

Speeds are those of the MFU (mindllm/metrics/peaks.py). Sizes are here; a size in the name ("A100 80GB") comes before
the table, and `memory_gib` before both. A device that nothing is known of has no number, rather than a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch

from mindllm.metrics.peaks import peak_of, peak_tflops

# GiB as nvidia-smi (rocm-smi) shows them, with error correction where that is on; of a part sold in two sizes, the
# smaller. torch sees about 1 % less.
MEMORY_GIB = {
    "B200": 179.0, "GH200": 95.6, "H200": 140.4, "H200 NVL": 140.4, "H100": 79.6, "H100 NVL": 93.6, "H800": 79.6,
    "H20": 95.6, "A100": 40.0, "A800": 40.0, "A40": 45.0, "A30": 24.0, "A10": 22.5, "A10G": 22.5, "L40S": 45.0,
    "L40": 45.0, "L20": 45.0, "L4": 22.5, "RTX A6000": 48.0, "RTX 5090": 31.8, "RTX 4090": 24.0, "RTX 3090": 24.0,
    "MI300X": 192.0, "MI250X": 64.0,
}  # fmt: skip
TWO_SIZES = {"A100": (40, 80), "A800": (40, 80), "GH200": (96, 144), "B200": (180, 192)}


@dataclass
class HardwareConfig:
    """What plan=true computes with.

    gpus: how many processes (0: as many as were started).  gpu: name of the device, as H100 ("": the one here).
    memory_gib: of one device (0: what is known of it).  mfu: share of its peak that is hoped for.  price: of an hour of
    one device, in any currency (0: no costs are shown).  vocab_size: entries of the tokenizer, as long as there is none
    (0: DEFAULT_VOCAB_SIZE).
    """

    gpus: int = 0
    gpu: str = ""
    memory_gib: float = 0.0
    mfu: float = 0.4
    price: float = 0.0
    vocab_size: int = 0

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        if not 0 < self.mfu <= 1:
            yield "mfu: must be above 0 and at most 1"
        for name in ("gpus", "memory_gib", "price", "vocab_size"):
            if not getattr(self, name) >= 0:
                yield f"{name}: must be 0 or more"


DEFAULT_VOCAB_SIZE = 32_000


class Device(NamedTuple):
    """One device. memory: bytes, or None.  tflops: dense bf16 peak, or None.  notes: what was assumed, a line each."""

    name: str
    memory: float | None
    tflops: float | None
    notes: list[str]


def find_device(config: HardwareConfig, peak: float = 0.0) -> Device:
    """The device that `config` names, or the one here. peak: TFLOP/s that come before those of the table (0: none)."""
    here = not config.gpu and torch.cuda.is_available()
    name = torch.cuda.get_device_name() if here else config.gpu or "CPU"
    notes: list[str] = []
    memory: float | None = config.memory_gib * 2**30 or None
    if memory is None and here:
        memory = float(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
    elif memory is None and config.gpu:
        memory = _memory_of(name, notes)
    tflops = peak or (peak_tflops() if here else peak_of(name))
    if name == "CPU":
        notes.append("no GPU is here; hardware.gpu=H100 (or another name) shows what fits there, and how long it takes")
    elif memory is None:
        notes.append(f"the memory of {name} is not known; set hardware.memory_gib to see what fits")
    if tflops is None:
        notes.append(f"how fast {name} is, is not known; set train.peak_tflops (dense bf16) to see hours")
    return Device(name, memory, tflops, notes)


def _memory_of(name: str, notes: list[str]) -> float | None:
    """Bytes of the device that calls itself `name`, or None; says which of two sizes it took."""
    said = re.search(r"(\d+)\s*(?:GB|GiB)\b", name, re.IGNORECASE)
    if said and said[1] != "480":  # nvidia-smi calls a GH200 "GH200 480GB", by the memory of its processor
        return int(said[1]) * 2.0**30
    if peak_of(name) is None:  # not in the tables, or a namesake: a laptop's, a part of a GPU
        return None
    known = [key for key in MEMORY_GIB if re.search(rf"(?<![^\s_-]){key}(?![^\s_-])", name, re.IGNORECASE)]
    if not known:
        return None
    key = max(known, key=len)
    if key in TWO_SIZES:
        small, large = TWO_SIZES[key]
        notes.append(f"{key}: {small} and {large} GB are sold, {MEMORY_GIB[key]:g} GiB taken; say which, as "
                     f"hardware.gpu=\"{key} {large}GB\", "
                     "or set hardware.memory_gib")  # fmt: skip
    return MEMORY_GIB[key] * 2**30
