"""A tiny class-conditional prior, with a map told beside the codes.

Nothing here enlarges rounding: first parameters moved in the last bit move the
curves by less than 1e-6, jax 0.12 instead of 0.10 by 4e-6. The bands are as
wide as platforms that sum in another order, and no more, may need.
"""

from tests.golden import bands, drawn
from tests.vqgan import tiny_prior
from vqgan import pixel_codes, prior_task
from vqgan.conditions import kinds, maps

_PEAK = 1e-2
_STEPS = 150


def begin(peak=_PEAK, told=True, model=(), **changes):
  """Return (task, state, batches); `told` whether the map reaches the model."""
  condition = maps.Map("segmentation", drawn.GRID, drawn.GRID, num_labels=2)
  fields = {
    "num_codes": drawn.NUM_CODES,
    "num_classes": drawn.NUM_CLASSES,
    "num_conditions": condition.vocabulary,
    "beside": kinds.beside(condition, drawn.GRID, "row") if told else (),
    "prefixed": False,
    "length": 16,
    "width": 32,
    "dropout": 0.1,
  }
  task = prior_task.PriorTask(
    model=tiny_prior.make(**{**fields, **dict(model)}),
    tokenizer=pixel_codes.Palette(drawn.NUM_CODES, drawn.GRID),
    condition=condition,
    tx=bands.adamw(peak, _STEPS, b2=0.95),
    from_codes=True,
    **{"class_drop": 0.1, **changes},
  )
  batches = drawn.batches(drawn.grids(), 16)
  return task, bands.first_state(task, {}), batches


RUN = bands.Run(
  name="prior",
  begin=begin,
  tolerances={"train/nats_per_code": 0.01, "train/right_fraction": 0.01},
  changes={
    "half the rate": {"peak": _PEAK / 2},
    "no label": {"class_drop": 1.0},
    "no map": {"told": False},
    "label only in the prefix": {"model": {"classes": "token"}},
    "no dropout": {"model": {"dropout": 0.0}},
  },
  steps=_STEPS,
)
