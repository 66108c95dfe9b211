"""A prior over the codes of the embedded scenes: what `make demo-prior` trains.

    python -m launch.train --config=configs/prior_scenes.py --workdir=DIR
    python -m launch.train --config=configs/prior_scenes.py:boxes --workdir=DIR

By class (the default), or by `coordinates`, `segmentation`, `depth`, `edges`,
`lowres`, `keypoints`, `boxes`, `points` or `completion`, without classes; tiny:
`:tiny` or `:depth,tiny`. All but boxes and points are told beside each code,
and all but label maps by a prefix (`condition.enters`). The first stage is the
one that ships, f4 with 256 codes. Made for five minutes on two CPU cores.
"""

import ml_collections

from configs import _scenes, prior_imagenet

FORMS = (
  "class",
  "coordinates",
  "segmentation",
  "depth",
  "edges",
  "lowres",
  "keypoints",
  "boxes",
  "points",
  "completion",
)
# Those whose prefix is as long as the codes.
LONG = ("coordinates", "depth", "edges", "keypoints")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is a form, "tiny", or both with a comma."""
  parts = [part for part in arg.split(",") if part]
  form = parts.pop(0) if parts and parts[0] in FORMS else "class"
  config = prior_imagenet.get_config()
  config.data.name = "scenes/64"
  config.data.size = (64, 64)
  config.data.flip = False  # the light comes from one side
  config.data.num_measured = 256
  config.tokenizer.weights = "vqgan_scenes"
  _scenes.first_stage(config.tokenizer.like)
  condition = config.condition
  if form == "class":
    config.model.num_classes = 24
  else:
    condition.kind = "boxes" if form == "points" else form
    if condition.kind != "boxes":
      condition.enters = "both"
  if form == "segmentation":
    condition.num_labels = 25
    condition.enters = "beside"  # twice the steps in as many minutes
  elif form in ("boxes", "points"):
    condition.num_labels, condition.vocabulary = 24, 1024
    condition.most, condition.points = 4, form == "points"
  elif form == "coordinates":
    condition.levels = 256
    config.data.zoom = 1.5  # crops, which lie in different places
  elif form == "lowres":
    condition.grid, condition.levels = (8, 8), 6
  elif form == "depth":
    condition.levels = 64
  elif form == "keypoints":
    condition.skeleton, condition.levels = "cross", 2
  config.model.layers, config.model.width, config.model.heads = 4, 128, 4
  config.model.class_scale = 0.2
  config.optimizer.peak = 2e-3
  config.optimizer.warmup_steps = 50
  config.optimizer.ema_decay = 0.99
  # Twice the time a step.
  config.train.num_steps = 350 if form in LONG else 600
  config.train.batch_size = 8
  config.train.remat = False
  config.train.log_every = 20
  config.train.checkpoint_every = 200
  config.eval.every = 600
  config.eval.batch_size = 50
  config.eval.num_examples = 100
  config.sample.every = 600
  config.sample.top_k = 0
  config.mesh.data = -1
  config.mesh.fsdp = 1
  return prior_imagenet.variant(config, ",".join(parts))
