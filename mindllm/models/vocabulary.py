"""New rows of an embedding, and of a head of its own, for a tokenizer that was enlarged.

A new token's row is the mean of the rows of the tokens that its text was written with before (replaced.npz, written by
mindllm/tokenizer/enlarge.py): it starts where the model has seen its text, instead of at noise. Old rows stay as they
are, bit by bit, so text without new tokens gives the same hidden states and the same logits of old tokens.
memory: the old weight in fp32 and the new one.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mindllm.config import UserError
from mindllm.tokenizer.fast import REPLACED_FILE


class Replaced(NamedTuple):
    """Token base_vocab_size + i took the place of the old tokens ids[offsets[i] : offsets[i + 1]]."""

    base_vocab_size: int
    offsets: np.ndarray  # int64 (num_new + 1,)
    ids: np.ndarray  # int32 (offsets[-1],)


def load_replaced(folder: str | Path) -> Replaced:
    """What the tokens of an enlarged tokenizer's folder replace. Raises UserError if it is none, RuntimeError if the
    file is damaged."""
    path = Path(folder) / REPLACED_FILE
    if not path.exists():
        raise UserError(f"{path}: not there, so this tokenizer was not enlarged (kind: enlarged writes it)")
    try:
        with np.load(path, allow_pickle=False) as file:
            found = Replaced(int(file["base_vocab_size"]), file["offsets"], file["ids"])
    except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise RuntimeError(f"{path}: damaged ({error}); make the tokenizer again") from None
    size, offsets, ids = found
    if offsets.ndim != 1 or ids.ndim != 1 or offsets.dtype != np.int64 or ids.dtype != np.int32 or len(offsets) < 1:
        raise RuntimeError(f"{path}: damaged (arrays of another shape or type); make the tokenizer again")
    inside = len(ids) == 0 or (ids.min() >= 0 and ids.max() < size)
    if offsets[0] != 0 or offsets[-1] != len(ids) or (np.diff(offsets) < 1).any() or not inside:
        raise RuntimeError(f"{path}: damaged (it names tokens that are not there); make the tokenizer again")
    return found


def grown_rows(weight: Tensor, replaced: Replaced) -> Tensor:
    """(V_old, C) -> (V_old + num_new, C): the old rows, then the means of the rows that new tokens replace.

    Sums are in fp32 (or in float64, for such a weight). For the embedding and for a head that is not tied to it. Raises
    UserError when the weight is not of the tokenizer that was enlarged.
    """
    if weight.ndim != 2 or len(weight) != replaced.base_vocab_size:
        shape = tuple(weight.shape)
        raise UserError(
            f"the weight has shape {shape}, but the tokenizer was enlarged from {replaced.base_vocab_size} entries: "
            "this model was trained with another one"
        )
    ids = torch.from_numpy(replaced.ids).to(weight.device, torch.int64)
    offsets = torch.from_numpy(replaced.offsets).to(weight.device)
    wide = weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
    means = F.embedding_bag(ids, wide, offsets, mode="mean", include_last_offset=True)
    return torch.cat([weight.detach(), means.to(weight.dtype)])
