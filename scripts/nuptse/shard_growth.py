"""Which shard an utterance goes into when the corpus grew: what was planned before stays where it is.

A hash alone would spread new utterances over all shards, and all would have to be written again. So the new
ones go into new shards if ``num_shards`` grew, else into as few as can take them. Shards may become uneven,
which NeMo does not mind: it reads shard after shard.
"""

from __future__ import annotations

import numpy as np

# A shard may hold so many times the mean, and the mean may be so many times a shard.
MAX_UNEVEN = 2


def extended_shards(
    keys: np.ndarray, keys_before: np.ndarray, starts_before: np.ndarray, num_shards: int
) -> tuple[np.ndarray | None, int]:
    """Return the shard of each utterance when only the new ones are assigned, and how many were there before.

    Two keys of different ids may be equal, once in a billion utterances: then a new utterance goes where the other is.

    Args:
        keys: hashes of the N utterances; uint64, (N,), ascending.
        keys_before: those of the earlier plan, shard by shard.
        starts_before: where each of its shards starts, and the end.
        num_shards: S.

    Returns:
        Shards, int64, (N,), or None where all must be assigned anew: most utterances are new, there are fewer shards
        than before, or a shard would have over twice the mean or less than half of it.
    """
    sizes_before = np.diff(starts_before)
    order = np.argsort(keys_before)
    place = np.searchsorted(keys_before, keys, sorter=order)
    place = order[np.minimum(place, len(order) - 1)]
    known = keys_before[place] == keys
    kept = int(known.sum())
    if num_shards < len(sizes_before) or 2 * kept < len(keys):
        return None, kept
    shards = np.repeat(np.arange(len(sizes_before)), sizes_before)[place]
    sizes = np.bincount(shards[known], minlength=num_shards)
    shards[~known] = _fill(sizes, len(keys) - kept)
    final = np.bincount(shards, minlength=num_shards)
    mean = len(keys) / num_shards
    even = final.min() >= max(1, np.floor(mean / MAX_UNEVEN)) and final.max() <= np.ceil(mean * MAX_UNEVEN)
    return (shards if even else None), kept


def _fill(sizes: np.ndarray, new: int) -> np.ndarray:
    """Return the shards of ``new`` utterances: all empty shards, and the smallest others as long as more are needed.

    They are filled up to one level, so that the sizes of those that are touched differ by one at most.

    >>> _fill(np.array([4, 4, 0, 0]), 5).tolist()
    [2, 2, 2, 3, 3]
    >>> _fill(np.array([4, 5, 4, 4]), 3).tolist()
    [0, 0, 0]
    """
    smallest = np.argsort(sizes, kind="stable")
    room = np.cumsum(np.maximum(np.ceil((sizes.sum() + new) / len(sizes) * MAX_UNEVEN) - sizes[smallest], 0))
    touched = max(int(np.searchsorted(room, new)) + 1, int((sizes == 0).sum()))
    smallest = smallest[:touched]
    # The level of water in vessels whose floors are at `sizes`.
    filled = np.cumsum(sizes[smallest])
    level = (new + filled) / np.arange(1, len(smallest) + 1)
    vessels = int(np.flatnonzero(level > sizes[smallest])[-1]) + 1 if new else 0
    if not vessels:
        return np.array([], dtype=np.int64)
    each, more = divmod(new + int(filled[vessels - 1]), vessels)
    quota = each + (np.arange(vessels) < more) - sizes[smallest[:vessels]]
    return np.repeat(smallest[:vessels], quota)
