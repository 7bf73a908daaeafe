"""Attention in blocks of queries on a CPU, forward and backward: what training there uses.

Sample by sample (several at once where heads are few), each block of 128 queries takes the keys that any of them can
see (up to the block's end, and from where its window or first document begins) as one batched product, softmax and
product again. The probabilities are kept for the backward pass, or made again there where a call would keep more than
KEPT_BYTES. memory: B*H*T*S/2 values under a causal mask (16 MB in bf16 at 8 x 512 tokens and 6 heads), and the buffers
of one block. bf16 inputs: products rounded to bf16 (scores too: a CPU has no others), softmax in fp32 inside, sums over
blocks in fp32. torch.compile sees two opaque operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mindllm.attention.mask import Mask

BLOCK = 128  # queries; fewer waste less of the diagonal, more make faster products
HEADS = 16  # in one product, at least: a product costs 20 to 50 us before it begins
KEPT_BYTES = 32 << 20  # of probabilities, a call; beyond it fresh memory takes as long as to make them again

# B batch, T queries, S keys, H heads, K key-value heads (of all samples in a product), G = H / K heads that share keys,
# D head dim, W keys of a block, R samples


def attend_in_blocks(query: Tensor, key: Tensor, value: Tensor, mask: Mask, window: int, scale: float) -> Tensor:
    """See attend. On a CPU, all three of one dtype."""
    room = 0
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad):
        room = _room(query.shape[1], key.shape[1], mask, window) * query.shape[0] * query.shape[2]
        room = room if room * query.element_size() <= KEPT_BYTES else 0
    rules = (mask.prefix, mask.documents, mask.padding, mask.causal)
    return _forward(query, key, value, *rules, window, scale, room)[0]


def _room(T: int, S: int, mask: Mask, window: int) -> int:
    """At least as many (query, key) pairs as the blocks of a sample and head hold, from shapes only."""
    pairs = T * S
    if mask.causal and mask.prefix is None:
        num_blocks = (T + BLOCK - 1) // BLOCK
        pairs = min(pairs, T * (S - T) + BLOCK * BLOCK * num_blocks * (num_blocks + 1) // 2)
        if window:
            pairs = min(pairs, T * (window + BLOCK))
    return pairs


class Block(NamedTuple):
    """Queries [first, last) against keys [low, high); `edges`: the key ranges in which some query may not see all."""

    first: int
    last: int
    low: int
    high: int
    edges: list[tuple[int, int]]


def blocks(T: int, S: int, mask: Mask, window: int, row: int) -> Iterator[Block]:
    """The blocks of sample `row`, in order."""
    numbers = mask.documents[row].numpy() if mask.documents is not None else None
    if numbers is not None and (numbers[1:] < numbers[:-1]).any():
        numbers = None  # in no order: they bound nothing
    prefix = int(mask.prefix[row]) if mask.prefix is not None else 0
    for first in range(0, T, BLOCK):
        last = min(first + BLOCK, T)
        begin, end = first + S - T, last + S - T  # positions of the queries
        low, high = max(0, begin - window + 1) if window else 0, max(end, min(prefix, S)) if mask.causal else S
        if numbers is not None:
            low = max(low, int(numbers.searchsorted(numbers[begin], "left")))
            high = min(high, int(numbers.searchsorted(numbers[end - 1], "right")))
        one = mask.documents is None or (numbers is not None and numbers[low] == numbers[high - 1])
        edges = [(low, high)]
        if one and mask.prefix is None and mask.padding is None:
            edges = [(begin, high)] if mask.causal else []
            if window and low < end - window:
                edges.append((low, min(end - window, high)))
        yield Block(first, last, low, high, edges)


class _Work:
    """What the blocks of a call share: the rules, and buffers that each block fills again, so that they stay in cache.

    memory: num_rows * H * BLOCK * S values a buffer
    """

    def __init__(self, query: Tensor, key: Tensor, mask: Mask, window: int, scale: float, num_buffers: int):
        self.mask, self.window, self.scale = mask, window, scale
        self.ahead = key.shape[1] - query.shape[1]  # keys before the first query
        B, T, H = query.shape[:3]
        num_rows = max(1, HEADS // H) if mask.plain else 1  # samples of one mask go together
        self.groups = [slice(row, min(row + num_rows, B)) for row in range(0, B, num_rows)]
        size = min(num_rows, B) * H * min(BLOCK, T) * key.shape[1]
        self._buffers = [query.new_empty(size) for _ in range(num_buffers)]
        self._nothing, self._tiles = query.new_empty(()), dict[tuple[int, int, int], Tensor]()

    def buffer(self, index: int, num_heads: int, num_rows: int, width: int) -> Tensor:
        """One of the buffers as a table (K, G*T, W)."""
        return self._buffers[index][: num_heads * num_rows * width].view(num_heads, num_rows, width)

    def probabilities(self, q: Tensor, k: Tensor, block: Block, row: int, out: Tensor) -> Tensor:
        """softmax of a block's queries (K, G*T, D) against its keys (K, W, D), into `out` (K, G*T, W)."""
        scores = self.buffer(0, *out.shape)
        torch.baddbmm(self._nothing, q, k.transpose(1, 2), beta=0, alpha=self.scale, out=scores)
        by_query = scores.unflatten(1, (-1, block.last - block.first))  # (K, G, T, W)
        for low, high in block.edges:
            # adding -inf is three times as fast as masked_fill_ of bf16 values
            by_query[..., low - block.low : high - block.low].add_(self._tile(block, low, high, row, q.dtype))
        return torch.softmax(scores, dim=-1, out=out)

    def _tile(self, block: Block, low: int, high: int, row: int, dtype: torch.dtype) -> Tensor:
        """0 where a query sees a key of [low, high), else -inf: (T, keys). Equal ones are made once."""
        begin, num_queries = block.first + self.ahead, block.last - block.first
        place = (low - begin, high - begin, num_queries)
        if self.mask.plain and place in self._tiles:
            return self._tiles[place]
        queries = torch.arange(begin, begin + num_queries)[:, None]
        seen = self.mask.rule(row, queries, torch.arange(low, high)[None], self.window)
        tile = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, float("-inf"))
        if self.mask.plain:
            self._tiles[place] = tile
        return tile


def _by_head(x: Tensor, num_kv_heads: int) -> Tensor:
    """(R, T, H, D) of R samples to (R*K, G, T, D), in one piece: products over it are up to a third faster."""
    return x.unflatten(2, (num_kv_heads, -1)).permute(0, 2, 3, 1, 4).flatten(0, 1).contiguous()


def _put(target: Tensor, result: Tensor, num_kv_heads: int) -> None:
    """Copy (R*K, G*T, D) into (R, T, H, D)."""
    R, T = target.shape[:2]
    by_head = target.unflatten(2, (num_kv_heads, -1))
    by_head.copy_(result.view(R, num_kv_heads, by_head.shape[3], T, -1).permute(0, 3, 1, 2, 4))


@torch.library.custom_op("mindllm::blocked_attention", mutates_args=())
def _forward(
    query: Tensor, key: Tensor, value: Tensor, prefix: Tensor | None, documents: Tensor | None,
    padding: Tensor | None, causal: bool, window: int, scale: float, room: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The result, and the probabilities of all blocks one after the other (room 0: none)."""
    mask, T, (S, K) = Mask(causal, prefix, documents, padding), query.shape[1], key.shape[1:3]
    work = _Work(query, key, mask, window, scale, 1 if room else 2)
    out, kept, used = torch.empty_like(query, memory_format=torch.contiguous_format), query.new_empty(room), 0
    for rows in work.groups:
        q, k, v = _by_head(query[rows], K), _by_head(key[rows], K)[:, 0], _by_head(value[rows], K)[:, 0]
        for block in blocks(T, S, mask, window, rows.start):
            part, keys = q[:, :, block.first : block.last].flatten(1, 2), slice(block.low, block.high)
            shape = (*part.shape[:2], block.high - block.low)
            if room:
                size = shape[0] * shape[1] * shape[2]
                p, used = kept[used : used + size].view(shape), used + size
            else:
                p = work.buffer(1, *shape)
            work.probabilities(part, k[:, keys], block, rows.start, p)
            _put(out[rows, block.first : block.last], torch.bmm(p, v[:, keys]), K)
    return out, kept


@torch.library.custom_op("mindllm::blocked_attention_backward", mutates_args=())
def _backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, kept: Tensor, prefix: Tensor | None,
    documents: Tensor | None, padding: Tensor | None, causal: bool, window: int, scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of query, key and value."""
    mask, (T, D), (S, K) = Mask(causal, prefix, documents, padding), query.shape[1::2], key.shape[1:3]
    work = _Work(query, key, mask, window, scale, 2 if kept.numel() else 3)
    d_query, d_key, d_value = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (query, key, value))
    used = 0
    for rows in work.groups:
        q, k, v, g = (_by_head(x[rows], K) for x in (query, key, value, grad))
        k, v = k[:, 0], v[:, 0].transpose(1, 2)
        d_k, d_v = (k.new_zeros((k.shape[0], S, D), dtype=torch.float32) for _ in range(2))
        for block in blocks(T, S, mask, window, rows.start):
            keys = slice(block.low, block.high)
            q_part, g_part = (x[:, :, block.first : block.last].flatten(1, 2) for x in (q, g))  # (K, G*T, D)
            shape = (*q_part.shape[:2], block.high - block.low)
            if kept.numel():
                size = shape[0] * shape[1] * shape[2]
                p, used = kept[used : used + size].view(shape), used + size
            else:
                p = work.probabilities(q_part, k[:, keys], block, rows.start, work.buffer(2, *shape))
            d_p = torch.bmm(g_part, v[:, :, keys], out=work.buffer(0, *shape))
            # d scores = p * (d p - sum of p * d p over the keys)
            d_scores = torch._softmax_backward_data(d_p, p, -1, p.dtype, grad_input=work.buffer(1, *shape))
            _put(d_query[rows, block.first : block.last], torch.bmm(d_scores, k[:, keys]).mul_(scale), K)
            d_k[:, keys] += torch.bmm(d_scores.transpose(1, 2), q_part)
            d_v[:, keys] += torch.bmm(p.transpose(1, 2), g_part)
        _put(d_key[rows], d_k.mul_(scale), K)
        _put(d_value[rows], d_v, K)
    return d_query, d_key, d_value


@_forward.register_fake
def _(
    query: Tensor, key: Tensor, value: Tensor, prefix: Tensor | None, documents: Tensor | None,
    padding: Tensor | None, causal: bool, window: int, scale: float, room: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return torch.empty_like(query, memory_format=torch.contiguous_format), query.new_empty(room)


@_backward.register_fake
def _(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, kept: Tensor, prefix: Tensor | None,
    documents: Tensor | None, padding: Tensor | None, causal: bool, window: int, scale: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (query, key, value))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, prefix, documents, padding, *ctx.rest, _ = inputs
    ctx.save_for_backward(query, key, value, output[1], prefix, documents, padding)


def _gradients(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return (*_backward(grad, *ctx.saved_tensors, *ctx.rest), None, None, None, None, None, None, None)


_forward.register_autograd(_gradients, setup_context=_save)
