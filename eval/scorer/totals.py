"""From logits to the log-likelihood of each request: sums over its tokens, and whether each token was the likeliest.

A request's tokens come in any order and in several passes, so sums are kept in float64 and do not depend on the order
beyond float32 rounding of single tokens. Results stay on the device until asked for: no waiting between passes.
Memory: the log-softmax of a pass, wanted * vocabulary * 4 bytes, and 13 bytes a scored token, all of them at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mindllm.config import RunFailed

NO_NUMBERS = "what the model computes are no numbers (nan): its weights are damaged, or too large for its dtype"


class Scored(NamedTuple):
    """log p(continuation | context), natural, and whether greedy decoding would write just this continuation."""

    logprob: float
    greedy: bool


class Totals:
    """Sums of token log-probabilities by request.

    What is kept lies in arrays made once: small tensors that stay between large ones that go would break memory into
    pieces that nothing fits into, here 2 MB a pass.
    """

    def __init__(self, num_requests: int, num_tokens: int, device: torch.device) -> None:
        """num_tokens: how many will be added, at most."""
        self._num_requests, self._num_added = num_requests, 0
        self._requests = np.zeros(num_tokens, dtype=np.int64)
        self._logprobs = torch.zeros(num_tokens, device=device)
        self._greedy = torch.zeros(num_tokens, dtype=torch.bool, device=device)

    def add(self, logits: Tensor, places: np.ndarray, targets: np.ndarray, requests: np.ndarray) -> None:
        """Token targets[i] of requests[i] was predicted by logits[places[i]] (wanted, vocabulary), float32."""
        place, target = (torch.from_numpy(a).to(logits.device) for a in (places, targets))
        logprobs = torch.log_softmax(logits, dim=-1)  # memory: wanted * vocabulary * 4 bytes
        found = logprobs[place, target]
        best = found == logprobs.amax(dim=-1)[place]
        if logits.device.type != "cpu" or bool(best.any()):  # slow: argmax takes as long as the softmax on a CPU
            best &= logprobs.argmax(dim=-1)[place] == target  # of equally likely tokens, the first counts
        here = slice(self._num_added, self._num_added + len(requests))
        self._requests[here], self._logprobs[here], self._greedy[here] = requests, found, best
        self._num_added += len(requests)

    def result(self) -> list[Scored]:
        """One for each request, in their order. Raises RunFailed where the model does not compute numbers."""
        sums, all_best = np.zeros(self._num_requests), np.ones(self._num_requests, dtype=bool)
        added = slice(self._num_added)
        np.add.at(sums, self._requests[added], self._logprobs[added].double().cpu().numpy())  # sync: the only one
        np.logical_and.at(all_best, self._requests[added], self._greedy[added].cpu().numpy())
        if np.isnan(sums).any():  # else the first choice would be picked, and look like an answer
            raise RunFailed(NO_NUMBERS)
        return [Scored(float(a), bool(b)) for a, b in zip(sums, all_best, strict=True)]
