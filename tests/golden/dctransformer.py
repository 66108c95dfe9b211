"""A tiny DCTransformer on pictures of 32 pixels.

The band is narrower than that of `launch.curves`, which compares runs of
different randomness: in that one a model that ignored its label, or the picture
before the chunk, went unnoticed.
"""

import optax

from data import arrays as data_arrays
from dctransformer import arrays
from tests.dctransformer import tiny
from tests.golden import bands, drawn

_PEAK = 3e-3


def begin(peak=_PEAK, blind=False, **changes):
  """Return (task, state, batches); a blind one sees no picture so far."""
  task = tiny.make_task(optax.adam(peak), **changes)
  state = tiny.init_task(task)
  if blind:
    far = 1e6 * state.frozen["channel_std"]
    state = state.replace(frozen={"channel_std": far})
  batches = data_arrays.train_batches(
    data_arrays.Arrays(*drawn.pictures(task.codec.rows * task.codec.block)),
    arrays.make_train_encode(task.codec, task.plan, resize=None),
    batch_size=16,
    seed=0,
  )
  return task, state, batches


RUN = bands.Run(
  name="dctransformer",
  begin=begin,
  tolerances={
    "train/loss": 0.02,
    "train/bits_channel": 0.02,
    "train/bits_position": 0.02,
    "train/bits_value": 0.02,
  },
  changes={
    "half the rate": {"peak": _PEAK / 2},
    "no picture before the chunk": {"blind": True},
    "no label": {"class_drop": 1.0},
  },
  steps=300,
)
