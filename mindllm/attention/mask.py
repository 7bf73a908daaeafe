"""Who may look at whom: the one statement of the rules, as data that every kernel reads in its own way.

A Mask is made once per batch, on the host (`Mask.packed`), and used by all layers, so that no layer has to ask the
device for a length. Memory: B*T*12 bytes for packed documents; nothing of size T x T unless `visible` is asked for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# B batch, T queries, S keys


def put(array: np.ndarray, device: torch.device | str) -> Tensor:
    """An array on the device; to a GPU through pinned memory, so that nobody waits for the copy."""
    tensor = torch.from_numpy(array)
    if torch.device(device).type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True, eq=False)
class Mask:
    """A query sees a key if all rules allow it; with S > T keys, the queries are the last T of the S positions.

    causal: not those after it.  prefix (B,): a key among the first prefix[b] positions is seen from everywhere, so that
    these see each other both ways and the rest is causal.  documents (B, T): only keys with the same number (of
    training; not with a cache).  padding (B,): the first padding[b] keys are seen by nobody but themselves.
    boundaries (num_documents + 1,), longest, positions (B, T): the documents again, as kernels for packed sequences
    take them: where they begin in the flattened batch (int32), the longest one's length, the place of each token in its
    own (int64).
    """

    causal: bool = True
    prefix: Tensor | None = None
    documents: Tensor | None = None
    padding: Tensor | None = None
    boundaries: Tensor | None = None
    longest: int = 0
    positions: Tensor | None = None

    @staticmethod
    def packed(first: np.ndarray, device: torch.device | str = "cpu", causal: bool = True) -> Mask:
        """Documents packed into rows: `first` (B, T) is true where one begins (a row's start always does)."""
        first = first.copy()
        first[:, 0] = True
        B, T = first.shape
        begins = np.flatnonzero(first)
        lengths = np.diff(begins, append=first.size)
        positions = np.arange(first.size) - np.repeat(begins, lengths)
        return Mask(
            causal=causal, documents=put(np.cumsum(first, axis=1, dtype=np.int32), device),
            boundaries=put(np.append(begins, first.size).astype(np.int32), device), longest=int(lengths.max()),
            positions=put(positions.reshape(B, T), device),
        )  # fmt: skip

    @property
    def plain(self) -> bool:
        """Nothing but (perhaps) causal."""
        return self.prefix is None and self.documents is None and self.padding is None

    def visible(self, num_queries: int, num_keys: int, window: int = 0, device: torch.device | str = "cpu") -> Tensor:
        """bool (B or 1, T, S): True where a query sees a key. `window`: only the last so many, itself included; 0: all.

        memory: B*T*S bytes
        """
        batch = None
        for per_row in (self.prefix, self.documents, self.padding):
            if per_row is not None:
                batch = torch.arange(per_row.shape[0], device=device)[:, None, None]
        return self.rule(batch, torch.arange(num_keys - num_queries, num_keys, device=device)[None, :, None],
                         torch.arange(num_keys, device=device)[None, None, :], window)  # fmt: skip

    def rule(self, batch: Tensor | int | None, query: Tensor, key: Tensor, window: int = 0) -> Tensor:
        """bool: may the query at position `query` of row `batch` see the key at `key`, counted in the whole sequence.

        The three broadcast against each other; single numbers will do, as flex_attention hands them in. `batch` is not
        looked at by a mask that is the same for all rows.
        """
        seen = query - key < window if window else torch.ones_like(query >= key)
        if self.causal:
            allowed = query >= key
            if self.prefix is not None:
                allowed = allowed | (key < self.prefix[batch])
            seen = seen & allowed
        if self.documents is not None:
            seen = seen & (self.documents[batch, query] == self.documents[batch, key])
        if self.padding is not None:
            seen = seen & ((key >= self.padding[batch]) | (query == key))
        return seen


CAUSAL = Mask()
