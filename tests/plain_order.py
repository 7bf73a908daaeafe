"""A second implementation of the order of samples, for plainness: no cache, no table, no numpy, from the docstrings."""

from __future__ import annotations

BLOCK = 1024
STRIDE = 399


def plain_mix(*words: int) -> int:
    """Fold words into 64 bits; after each, splitmix64's finaliser (Steele et al. 2014, figure 17)."""
    z = 0x9E3779B97F4A7C15
    for word in words:
        z = _final((z + word % 2**64 + 0x9E3779B97F4A7C15) % 2**64)
    return z


def _final(z: int) -> int:
    z = (z ^ z // 2**30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z // 2**27) * 0x94D049BB133111EB % 2**64
    return z ^ z // 2**31


def plain_permutation(n: int, key: int) -> list[int]:
    """The images of 0 ... n - 1: four Feistel rounds on two halves of the bits, again until the image is below n."""
    bits = 1
    while 4**bits < n:
        bits += 1
    images = []
    for i in range(n):
        while True:
            left, right = divmod(i, 2**bits)
            for r in range(4):
                left, right = right, left ^ plain_mix(plain_mix(key, r) ^ right) % 2**bits
            i = left * 2**bits + right
            if i < n:
                break
        images.append(i)
    return images


def plain_counts(shares: list[int], number: int) -> list[int]:
    """How many places each source has in block `number`: its whole part, and a free place where it owns the point.

    Sources own stretches of 0 ... 1024 * free - 1, as long as their rests; a block's points lie 1024 apart.
    """
    counts = [share // BLOCK for share in shares]
    owners = [source for source, share in enumerate(shares) for _ in range(share % BLOCK)]
    for source in owners[number * STRIDE % BLOCK :: BLOCK]:
        counts[source] += 1
    return counts


def plain_block(shares: list[int], key: int, number: int) -> list[int]:
    """The source of every place of a block: sources in order, sorted by a mixed number of each place."""
    start = plain_mix(key, number)
    order = sorted((_final((place * 0x9E3779B97F4A7C15 + start) % 2**64), place) for place in range(BLOCK))
    listed = [source for source, count in enumerate(plain_counts(shares, number)) for _ in range(count)]
    return [listed[place] for _, place in order]


def plain_uniform(shares: list[int], key: int, num_samples: int, first: int = 0) -> list[int]:
    """The sources of the first places of a uniform order that begins with block `first`."""
    blocks = range(first, first + -(-num_samples // BLOCK))
    return [source for number in blocks for source in plain_block(shares, key, number)][:num_samples]


def plain_epoch_key(seed: int, name: str, epoch: int) -> int:
    """The key of a source's permutation in an epoch."""
    return plain_mix(plain_mix(seed, 2, *name.encode()), epoch)
