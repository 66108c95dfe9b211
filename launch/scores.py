"""Scores extracted features, and says of every number what decides it."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tqdm

from evaluation import (
  compare,
  features,
  image_sets,
  inception_weights,
  pixels,
  preprocess,
  reference,
)
from launch import errors, flags, image_sources, setup
from training import environment, sharding
from weights import download, lpips

_EDGES = "edges"
PAIRED = ("psnr", "ssim", "lpips", _EDGES)
# Of the smaller side; those that are not here take any.
LEAST_SIDE = {"ssim": pixels.SSIM_SIDE, "edges": pixels.LAPLACIAN_SIDE}
# The network of LPIPS as a metric, and its files: backbone and heads.
_LPIPS, _LPIPS_FILES = "alex", ("alexnet", "lpips_alex")
# The images that precision, recall and KID take of a reference.
REFERENCE_IMAGES = 10_000
# Between lines of progress where there is no terminal.
_SECONDS_A_LINE = 30
# What a result names where no metric needs Inception.
NO_NETWORK = "none"


def open_network(source: str, mode: str) -> features.Network:
  """Loads Inception: "" fetches the public file, or a path, or random:SEED."""
  preprocess.check(mode)
  try:
    loaded = inception_weights.load(source or None)
  except download.WeightsMissing as error:
    raise errors.CommandError(
      f"{error}, or give --inception=FILE (eval.scores.inception in training)"
    ) from error
  return features.network(loaded, mode)


def open_lpips() -> dict[str, Any]:
  """Loads the network of LPIPS as a metric, fetching it where it is absent.

  Raises:
    WeightsMissing: it cannot be fetched.
  """
  return lpips.load(_LPIPS)


def score(
  extracted: features.Features,
  net: features.Network,
  name: str,
  against: reference.Statistics | None,
  real: np.ndarray | None,
  metrics: Sequence[str] = compare.DEFAULT,
  ours: reference.Statistics | None = None,
  named: int = 0,
) -> tuple[dict[str, float], list[str]]:
  """Checks that two sets compare, and scores one; see `compare.scores`.

  `ours` are the statistics that the set was given as; None for images.
  """
  notes: list[str] = []
  if ours is not None:
    notes += ours.notes
  if against is not None:
    ours = ours or reference.of(extracted, net, dataset=name)
    reference.check_comparable(ours, against, net.official)
    notes += against.notes
  unchecked = ours is not None and ours.known("preprocess") is None
  found, said = compare.scores(
    extracted, net, against, real, metrics, unchecked, named
  )
  return found, [*notes, *said]


def open_reference(
  text: str,
  net: features.Network,
  batch: int,
  size: int = 0,
  data_dir: str = "",
) -> tuple[reference.Statistics, np.ndarray | None]:
  """Reads statistics, or makes them of images.

  Returns the statistics, and pool_3 features of at most 10,000 images: those
  in the file, or of its `arr_0`, or of the images.

  Raises:
    StatisticsError: they were made otherwise than `net` would.
  """
  if is_statistics(text):
    found = reference.load(text)
    reference.check_made_with(found, net)
    real = found.features
    if real is None and found.has_images:
      images = image_sets.from_npz(text)
      real = extract(images, net, batch, keep=("pool",)).kept["pool"]
    return found, real
  images = image_sources.open_images(text, size=size, data_dir=data_dir)
  found = statistics_of(images, net, batch, crop_name(size))
  return found, found.features


def is_statistics(text: str) -> bool:
  """Says whether an argument names a file of statistics."""
  return text.endswith(".npz") and reference.is_statistics(text)


def statistics_of(
  images: image_sets.ImageSet,
  net: features.Network,
  batch: int,
  crop: str,
  **extra: Any,
) -> reference.Statistics:
  """Extracts a reference, keeping the features of 10,000 images."""
  extracted = extract(
    images, net, batch, keep=("pool",), keep_num=REFERENCE_IMAGES
  )
  extra = {"revision": environment.revision(), **extra}
  if images.num > extracted.count:
    extra["unreadable"] = images.num - extracted.count
  return reference.of(
    extracted, net, dataset=images.name, crop=crop, extra=extra
  )


def extract_like(
  images: image_sets.ImageSet,
  net: features.Network,
  batch: int,
  against: reference.Statistics | None,
) -> features.Features:
  """Extracts features, once the first image is found to fit a reference."""
  if against is not None:
    first = next(images.pieces(1))
    reference.check_made_with(against, net, first.shape[1:3])
  return extract(images, net, batch)


def extract(
  images: image_sets.ImageSet,
  net: features.Network,
  batch: int,
  **options: Any,
) -> features.Features:
  """Extracts features with a progress bar on a terminal."""
  with Bar(f"features of {images.name}", images.num) as show:
    return features.extract(images, net, batch=batch, progress=show, **options)


def crop_name(size: int) -> str:
  """Names how images were brought to their size."""
  return f"center {size}" if size else "none"


def score_pairs(
  images: image_sets.ImageSet,
  others: image_sets.ImageSet,
  metrics: Sequence[str],
  batch: int,
) -> tuple[dict[str, float], features.Features]:
  """Scores pairs of images in the same order.

  Returns:
    Means over the pairs, and what is known of the first set: no features.
  """
  if images.num != others.num:
    raise errors.CommandError(
      f"{images.name} has {images.num} images and {others.name} {others.num}:"
      " pairs need as many"
    )
  sums = PairSums(metrics)
  hashes, size = [], (0, 0)
  pairs = zip(images.batches(batch), others.batches(batch), strict=True)
  for (_, a), (_, b) in pairs:
    sums.add(a, b)
    hashes += image_sets.hashes(a)
    size = a.shape[1:3]
  digest = image_sets.digest(hashes)
  return sums.means(), features.Features(images.num, {}, {}, size, digest)


class PairSums:
  """Adds up PSNR, SSIM, LPIPS and the energy of edges of pairs of images."""

  def __init__(self, metrics: Sequence[str] = PAIRED):
    """Prepares; LPIPS's weights are loaded here, once."""
    energies = lambda *pair: np.stack([*map(pixels.laplacian_energy, pair)])
    self._metrics: dict[str, Callable] = {
      "psnr": pixels.psnr,
      "ssim": pixels.ssim,
      _EDGES: energies,  # [2, b]
    }
    if "lpips" in metrics:
      params = open_lpips()
      self._metrics["lpips"] = lambda a, b: pixels.lpips(params, a, b, _LPIPS)
    self._sums = {name: np.zeros(()) for name in metrics}
    self._count = 0

  def add(self, a: np.ndarray, b: np.ndarray) -> None:
    """Adds pairs, uint8 [b, h, w, 3]."""
    for name in self._sums:
      values = self._metrics[name](a, b)
      self._sums[name] = self._sums[name] + np.sum(values, -1, np.float64)
    self._count += len(a)

  def means(self) -> dict[str, float]:
    """Returns the mean of each over all pairs; LPIPS names its network.

    Of edges it is the energy of all first images over that of all second ones:
    1 where both are as sharp.
    """
    found = {}
    for name, total in self._sums.items():
      if name == _EDGES:
        with np.errstate(divide="ignore", invalid="ignore"):
          found[name] = float(total[0] / total[1])
      else:
        key = f"{name}_{_LPIPS}" if name == "lpips" else name
        found[key] = float(total) / self._count
    return found


def describe(
  name: str,
  against: str,
  extracted: features.Features,
  net: features.Network | None,
  found: Mapping[str, float],
  notes: Sequence[str],
  **more: Any,
) -> dict[str, Any]:
  """Puts everything that decides the numbers beside them.

  Without a network, as pairs of images need none, none is named; LPIPS has one
  of its own.
  """
  if f"lpips_{_LPIPS}" in found:
    files = [download.FILES[name] for name in _LPIPS_FILES]
    more["lpips"] = {
      "net": _LPIPS,
      "weights": {file.name: file.sha256 for file in files},
    }
  return {
    "samples": name,
    "reference": against,
    "num_samples": extracted.count,
    "size": list(extracted.size),
    "digest": extracted.digest,
    "preprocess": net.preprocess if net else NO_NETWORK,
    "weights": net.weights if net else NO_NETWORK,
    "scores": dict(found),
    "notes": list(notes),
    **more,
    "environment": environment.describe(),
  }


def host(tree: Any) -> Any:
  """Makes every array whole on every process, as NumPy."""

  def whole(array):
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
      replicated = sharding.replicated(array.sharding.mesh)
      return jax.jit(lambda x: x, out_shardings=replicated)(array)
    return array

  return jax.device_get(jax.tree.map(whole, tree))


class Bar:
  """A progress bar on a terminal's stderr; elsewhere a line now and then."""

  def __init__(self, what: str, total: int):
    """Names what is counted up to `total`."""
    self._terminal = sys.stderr.isatty()
    self._what = what
    self._bar = tqdm.tqdm(
      total=total, desc=what, unit="image", disable=not self._terminal
    )
    self._began: tuple[float, int] | None = None
    self._said = time.monotonic()

  def __enter__(self) -> Callable[[int, int], None]:
    """Returns what to call with (done, total)."""
    return self._show

  def __exit__(self, *_) -> None:
    """Closes the bar."""
    self._bar.close()

  def _show(self, done: int, total: int) -> None:
    if self._terminal:
      self._bar.update(done - self._bar.n)
      return
    now = time.monotonic()
    # What was there already took no time.
    began, first = self._began = self._began or (now, done)
    if jax.process_index() == 0 and now - self._said >= _SECONDS_A_LINE:
      self._said = now
      rate = (done - first) / (now - began) if now > began else 0.0
      print(
        f"{self._what}: {done:,} of {total:,}, {rate:.3g} images/s",
        file=sys.stderr,
        flush=True,
      )


def add_options(parser: flags.Parser) -> None:
  """Adds what decides the features, for each command that extracts them."""
  add = parser.add_argument
  add("--inception", default="", help="its file; default: the public one")
  add(
    "--preprocess",
    default=preprocess.DEFAULT,
    help=f"one of {', '.join(preprocess.MODES)}",
  )
  add("--batch", type=int, default=64, help="images at a time, a process")
  add("--size", type=int, default=0, help="side of a central square")
  add("--data_dir", default="", help="where TFDS datasets, or a run's, are")
  add("--platform", default="auto", help=f"one of {', '.join(setup.PLATFORMS)}")


def check_options(parser: flags.Parser, args: Any) -> None:
  """Refuses wrong values of `add_options`."""
  if args.batch < 1 or args.size < 0:
    parser.error("--batch must be at least 1 and --size at least 0")
  if args.preprocess not in preprocess.MODES:
    parser.error(
      f"no preprocess {args.preprocess!r}"
      f"{flags.did_you_mean(args.preprocess, preprocess.MODES)}"
    )
