"""What a run needs, before it is started."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class HardwareConfig:
    """What plan=true computes with.

    gpus: how many processes (0: as many as were started).  gpu: name of the device, as H100 ("": the one here).
    memory_gib: of one device (0: what is known of it).  mfu: share of its peak that is hoped for.  price: of an hour of
    one device, in any currency (0: no costs are shown).
    """

    gpus: int = 0
    gpu: str = ""
    memory_gib: float = 0.0
    mfu: float = 0.4
    price: float = 0.0

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        if self.gpus < 0:
            yield "gpus: must be 0 or more"
        if not 0 < self.mfu <= 1:
            yield "mfu: must be above 0 and at most 1"
        for name in ("memory_gib", "price"):
            if not getattr(self, name) >= 0:
                yield f"{name}: must be 0 or more"
