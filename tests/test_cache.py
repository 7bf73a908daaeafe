"""models.cache: what was appended comes back, in its order, whatever its types; sequences leave and change places."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mindllm.models.cache import Cache

B, K, D = 3, 2, 4


def random(T: int, seed: int, rows: int = B) -> Tensor:
    return torch.randn(rows, T, K, D, generator=torch.Generator().manual_seed(seed))


def fill(cache: Cache, sizes: list[int]) -> list[tuple[Tensor, Tensor]]:
    """Append so many tokens, two layers; what each layer has to hold."""
    whole: list[tuple[Tensor, Tensor]] = []
    for layer in (0, 1):
        keys, values = ([random(T, 100 * layer + 10 * n + part) for n, T in enumerate(sizes)] for part in (0, 1))
        whole.append((torch.cat(keys, 1), torch.cat(values, 1)))
    start = 0
    for T in sizes:
        for layer, (keys, values) in enumerate(whole):
            end = start + T
            found = cache.append(layer, keys[:, start:end], values[:, start:end])
            assert torch.equal(found[0], keys[:, :end]) and torch.equal(found[1], values[:, :end])
        cache.advance(T)
        start += T
        assert cache.length == start
    return whole


def test_all_layers_hold_what_was_appended() -> None:
    fill(Cache(9), [4, 1, 1, 3])


def test_no_token_is_copied_again() -> None:
    cache = Cache(5)
    first, _ = cache.append(0, random(2, 1), random(2, 2))
    cache.advance(2)
    second, _ = cache.append(0, random(3, 3), random(3, 4))
    assert first.data_ptr() == second.data_ptr()
    assert second.transpose(1, 2).stride()[-2:] == (D, 1), "what a head reads lies in one stretch"


@pytest.mark.parametrize("rows", [[0, 2], [2, 0, 1], [1], [1, 1, 0, 2]])
def test_reorder(rows: list[int]) -> None:
    cache = Cache(6)
    whole = fill(cache, [3, 1])
    cache.reorder(torch.tensor(rows))
    for layer, (keys, values) in enumerate(whole):
        key, value = random(1, 7, len(rows)), random(1, 8, len(rows))
        found = cache.append(layer, key, value)
        assert torch.equal(found[0], torch.cat((keys[rows], key), 1))
        assert torch.equal(found[1], torch.cat((values[rows], value), 1))
    cache.advance(1)
    assert cache.length == 5
    assert cache.append(0, key, value)[0].shape == (len(rows), 6, K, D)


def test_keys_and_values_keep_their_types() -> None:
    """Under autocast, rotated keys are fp32 and values bf16."""
    cache = Cache(3)
    key, value = random(2, 1), random(2, 2).bfloat16()
    found = cache.append(0, key, value)
    assert found[0].dtype == torch.float32 and found[1].dtype == torch.bfloat16 and torch.equal(found[1], value)
    cache.reorder(torch.tensor([1]))
    cache.advance(2)
    assert cache.append(0, key[:1, :1], value[:1, :1])[1].dtype == torch.bfloat16


def test_more_than_there_is_room_for_is_a_mistake() -> None:
    cache = Cache(3)
    cache.append(0, random(2, 1), random(2, 2))
    cache.advance(2)
    with pytest.raises(AssertionError, match="holds 3 tokens, not 4"):
        cache.append(0, random(2, 3), random(2, 4))
