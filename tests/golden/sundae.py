"""A tiny class-conditional SUNDAE with two unrolls.

First parameters moved in the last bit move the curves by less than 1e-6, jax
0.12 instead of 0.10 by 4e-6. The bands are wider because rounding elsewhere may
turn over a draw between the unrolls.
"""

from tests.golden import bands, drawn
from tests.sundae import tiny

_PEAK = 1e-2
_STEPS = 150


def begin(peak=_PEAK, model=(), **changes):
  """Return (task, state, batches)."""
  task = tiny.make_task(
    bands.adamw(peak, _STEPS),
    model={
      "num_codes": drawn.NUM_CODES,
      "num_classes": drawn.NUM_CLASSES,
      "layers": (1, 1, 1),
      "resampling": "patch",
      **dict(model),
    },
    from_codes=True,
    **{"class_drop": 0.1, **changes},
  )
  batches = drawn.batches(drawn.grids(), 16)
  return task, bands.first_state(task, {}), batches


RUN = bands.Run(
  name="sundae",
  begin=begin,
  tolerances={
    "train/nats_per_code_unroll_1": 0.01,
    "train/nats_per_code_unroll_2": 0.01,
    "train/right_fraction_unroll_1": 0.01,
    "train/right_fraction_unroll_2": 0.01,
  },
  changes={
    "half the rate": {"peak": _PEAK / 2},
    "no label": {"class_drop": 1.0},
    "one unroll": {"unrolls": 1},
    "no attention between grids": {"model": {"resampling": "none"}},
  },
  steps=_STEPS,
)
