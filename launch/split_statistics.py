"""Statistics of a split as a run's model sees it, made once and kept."""

import jax

from data import source as source_lib
from evaluation import features, image_sets, reference
from launch import image_sources, runs, scores
from training import sharding


def open_or_make(
  run: runs.Run,
  source: source_lib.Source,
  net: features.Network,
  batch: int,
  size: int = 0,
  seen: image_sets.ImageSet | None = None,
) -> reference.Statistics:
  """Returns the statistics of a split; the file is in RUN/eval.

  Args:
    run: whose pictures of the split count.
    source: the split, or a part of it.
    net: Inception.
    batch: images at a time in a process.
    size: side of a central square; 0 takes the pictures as they are.
    seen: those pictures, where TensorFlow decoded and resized them; by default
      NumPy and Pillow do.
  """
  split = source.name.split()[-1].replace("/", "-")
  weights = net.weights.replace(":", "-")[:12]
  what = f"{split}-{len(source)}-{size or 'full'}"
  if seen is not None:
    what += "-seen"
  name = f"reference-{what}-{net.preprocess}-{weights}.npz"
  path = run.workdir / "eval" / name
  if sharding.agreed(path.exists()):
    found = reference.load(path)
    if (found.metadata or {}).get("source") == source.fingerprint:
      return found
  images = seen or image_sources.from_run(run, source, size)
  found = scores.statistics_of(
    images, net, batch, scores.crop_name(size), source=source.fingerprint
  )
  if jax.process_index() == 0:
    reference.save(path, found)
  return found
