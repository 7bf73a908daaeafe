"""What devices can do: the dense bf16 peak that MFU is measured against, from a table of datasheets.

A device that is not in it has none, rather than a wrong one.
"""

from __future__ import annotations

import re

import torch

# Dense bf16 TFLOP/s with fp32 sums, by words of the name that torch reports: the entry with most words wins. Many
# datasheets state twice this, with sparsity. Of one part sold as SXM and PCIe the plain name is the SXM one.
PEAK_TFLOPS = {
    "B200": 2250.0,  # NVIDIA HGX B200 datasheet: 36 PFLOP/s of eight, with sparsity
    "GH200": 989.4,  # NVIDIA GH200 datasheet: 1,979 with sparsity
    "H200": 989.4,  # NVIDIA H200 datasheet, SXM: 1,979 with sparsity
    "H200 NVL": 835.5,  # the same: 1,671 with sparsity
    "H100": 989.4,  # NVIDIA H100 datasheet, SXM: 1,979 with sparsity
    "H100 NVL": 835.5,  # the same: 1,671 with sparsity
    "H100 PCIe": 756.5,  # the same, first edition: 1,513 with sparsity
    "H800": 989.4,  # as H100: less interconnect and fp64, the same tensor cores
    "H800 PCIe": 756.5,
    "H20": 148.0,  # NVIDIA H20 datasheet, dense
    "A100": 312.0,  # NVIDIA A100 datasheet, SXM and PCIe, dense
    "A800": 312.0,  # as A100: less interconnect
    "A40": 149.7,  # NVIDIA A40 datasheet, dense
    "A30": 165.0,  # NVIDIA A30 datasheet, dense
    "A10": 125.0,  # NVIDIA A10 datasheet, dense
    "A10G": 70.0,  # NVIDIA A10G datasheet, dense
    "L40S": 362.05,  # NVIDIA L40S datasheet, dense
    "L40": 181.05,  # NVIDIA L40 datasheet, dense
    "L20": 119.5,  # NVIDIA L20 datasheet, dense
    "L4": 121.0,  # NVIDIA L4 datasheet: 242 with sparsity
    "RTX A6000": 154.8,  # NVIDIA GA102 white paper, dense
    "RTX 5090": 209.5,  # NVIDIA RTX Blackwell white paper, fp32 accumulate, dense
    "RTX 4090": 165.2,  # NVIDIA Ada white paper, fp32 accumulate, dense
    "RTX 3090": 71.0,  # NVIDIA GA102 white paper, fp32 accumulate, dense
    "MI300X": 1307.4,  # AMD Instinct MI300X datasheet, dense
    "MI250X": 191.5,  # AMD Instinct MI250X datasheet: 383 of the two devices that torch sees
}
_OTHER_PARTS = {"ti", "d", "super", "laptop", "mobile", "max-q", "mig"}  # of the same name, but slower or faster


def peak_tflops() -> float | None:
    """The device's dense bf16 peak, or None when the table does not know it (or the device has no bf16, as V100)."""
    return peak_of(torch.cuda.get_device_name()) if torch.cuda.is_available() else None


def peak_of(name: str) -> float | None:
    """Dense bf16 TFLOP/s of a GPU that calls itself `name`, or None. Part of a GPU (MIG) has none either."""
    words = re.split(r"[\s_-]+", name.lower())
    if _OTHER_PARTS & {*words, *name.lower().split()}:
        return None
    known = [key for key in PEAK_TFLOPS if _holds(words, key.lower().split())]
    return PEAK_TFLOPS[max(known, key=lambda key: len(key.split()))] if known else None


def _holds(words: list[str], part: list[str]) -> bool:
    return any(words[i : i + len(part)] == part for i in range(len(words)))
