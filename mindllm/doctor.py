"""`make doctor`: one screen that says what this machine has, which paths will be taken, and what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import mindllm
from mindllm import attention, loss
from mindllm.host import has_bf16
from mindllm.metrics.peaks import peak_tflops

PACKAGES = (
    "torch",
    "deepspeed",
    "transformers",
    "sentencepiece",
    "tokenizers",
    "lm_eval",
    "datasets",
    "pyarrow",
    "rensa",
    "Resiliparse",
)
OPTIONAL = {
    "flash-attn": "for NVIDIA GPUs; torch's own flash kernels do without: pip install -e '.[flash]' needs nvcc",
    "liger-kernel": "a fused loss head for GPUs; ours does without: pip install -e '.[liger]'",
    "ray": "for data stages on a cluster: pip install -e '.[ray]'",
    "s3fs": "for sources under s3://: pip install -e '.[s3]'",
    "gcsfs": "for sources under gs://: pip install -e '.[gs]'",
}


def rows() -> list[tuple[str, str]]:
    """(what, how it is here), a line each."""
    found = [("mindllm", mindllm.__version__), ("python", f"{platform.python_version()} in {sys.prefix}")]
    found += [(name, _version(name)) for name in PACKAGES]
    found += [(name, _version(name, hint)) for name, hint in OPTIONAL.items()]
    bf16 = "in hardware" if has_bf16() else "emulated, slow: use precision=fp32"
    found.append(("cpu", f"{os.cpu_count()} cores, {_memory_gib():.0f} GiB of memory, bf16 products: {bf16}"))
    found.append(("gpu", _gpus()))
    found.append(("attention", attention.describe()))
    found.append(("loss", loss.describe()))
    found.append(
        (
            "MFU",
            "measured against the table"
            if peak_tflops()
            else "n/a (no GPU, or one that the table of peaks does not know)",
        )
    )
    found.append(("g++", _compiler()))
    found.append(("free disk here", f"{shutil.disk_usage('.').free / 1e9:.0f} GB"))
    return found


def main() -> int:
    """Print the page; exit code 1 when a package that every stage needs is missing."""
    table = Table("what", "here", title="doctor", show_lines=False)
    listed = rows()
    for row in listed:
        table.add_row(*map(escape, row))
    Console().print(table)
    missing = [name for name, state in listed if name in PACKAGES and state.startswith("missing")]
    if missing:
        print(f"missing: {', '.join(missing)}; make setup installs the pinned versions", file=sys.stderr)
    return 1 if missing else 0


def _version(name: str, hint: str = "make setup installs it") -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"missing: {hint}"


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _gpus() -> str:
    if not torch.cuda.is_available():
        return "none: training runs on the CPU, for tiny models only"
    names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return ", ".join(f"{p.name} {p.total_memory / 2**30:.0f} GiB" for p in names)


def _compiler() -> str:
    path = shutil.which("g++")
    if path is None:
        return "missing: torch.compile needs it (Debian: apt-get install g++)"
    return (
        subprocess.run([path, "-dumpfullversion"], capture_output=True, text=True, check=False).stdout.strip()
        or "found"
    )


if __name__ == "__main__":
    sys.exit(main())
