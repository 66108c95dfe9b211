"""What a run has to know about its data before it begins.

Measured once on lists (`make_list_encode`), stored with the run: the scale of
every channel, the sizes of images, the lengths of lists. NumPy only.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from dctransformer import dct

# A channel that is nearly always zero would turn a rare +-1 into a huge input.
STD_FLOOR = 0.25
# Share of images, in percent, whose list is kept whole.
KEPT_WHOLE = 99


def measure(
  codec: dct.Codec,
  batches: Iterable[Mapping[str, np.ndarray]],
  *,
  chunk_len: int = 896,
  max_chunks: int = 0,
  std_floor: float = STD_FLOOR,
) -> dict[str, np.ndarray]:
  """Accumulate statistics over batches of whole lists, one row an image.

  Args:
    codec: of the lists.
    batches: rows as `dctransformer.encode` documents, and, where some of them
      are padding, `mask` (bool [b]).
    chunk_len: new elements of a chunk.
    max_chunks: the limit of a list; 0 takes the one that is measured.
    std_floor: least standard deviation of a channel, in quantisation steps.

  Returns:
    channel_std: float32 [3B^2], over the cells inside the images that a
      channel can occupy (chroma: even rows and columns), at least std_floor.
    sizes: int32 [k, 2], the rows and columns in blocks that occur, sorted.
    size_counts: int64 [k], how many images have them.
    length_percentiles: float64 [101], of the elements of an image, by percent.
    mean_length: float64, mean number of elements.
    value_range: int32 [2], least and largest listed value (after clipping).
    clipped_fraction: float64, elements outside of the range of values.
    truncated_fraction: float64, images whose list exceeds the limit.
    max_chunks: int32, chunks that hold a list and its stop in 99% of images.
    num_images: int64.

  Raises:
    ValueError: no images.
  """
  sums = np.zeros((2, codec.num_channels))
  totals, blocks = [], []
  clipped = least = largest = 0
  for batch in batches:
    keep = batch.get("mask", np.ones(len(batch["total"]), bool))
    batch = {name: np.asarray(leaf)[keep] for name, leaf in batch.items()}
    held = np.arange(batch["value"].shape[1]) < batch["length"][:, None]
    channel = batch["channel"][held]
    value = batch["value"][held].astype(np.float64)
    for power in (1, 2):
      sums[power - 1] += np.bincount(
        channel, value**power, minlength=codec.num_channels
      )
    least = min(least, value.min(initial=0))
    largest = max(largest, value.max(initial=0))
    clipped += int(batch["clipped"].sum())
    totals.append(batch["total"])
    blocks.append(batch["blocks"])
  totals = np.concatenate([*totals, np.zeros(0, np.int32)]).astype(np.int64)
  if not len(totals):
    raise ValueError("no images to measure: the split is empty")
  sizes, counts = np.unique(np.concatenate(blocks), axis=0, return_counts=True)
  whole = math.ceil(np.percentile(totals + 1, KEPT_WHOLE) / chunk_len)
  room = (max_chunks or whole) * chunk_len
  return {
    "channel_std": _deviation(codec, sums, sizes, counts, std_floor),
    "sizes": sizes.astype(np.int32),
    "size_counts": counts.astype(np.int64),
    "length_percentiles": np.percentile(totals, np.arange(101)),
    "mean_length": np.float64(totals.mean()),
    "value_range": np.array([least, largest], np.int32),
    "clipped_fraction": np.float64(clipped / max(totals.sum(), 1)),
    "truncated_fraction": np.float64((totals > room).mean()),
    "max_chunks": np.int32(whole),
    "num_images": np.int64(len(totals)),
  }


def _deviation(codec, sums, sizes, counts, floor):
  cells = float((sizes.prod(axis=1, dtype=np.int64) * counts).sum())
  share = np.repeat([1.0, 0.25, 0.25], codec.block**2)
  mean, square = sums / (cells * share)
  return np.sqrt(np.maximum(square - mean**2, floor**2)).astype(np.float32)
