"""A tiny first stage on pictures of 16 pixels, with an early discriminator.

The quantizer is the default config's. Rounding flips a code now and then, and
the two players enlarge it: of five runs whose first parameters were moved in
the last bit, the farthest after 60 steps was 0.003 away in the losses, 0.004 in
the codebook's, 0.035 in the perplexity, and 0.006, 0.018 and 0.005 in the three
of the adversary (after 150 steps 0.009, 0.005, 0.05, 0.07, 0.17 and 0.03). So
the curves are of 60 steps, and the bands some three times as wide. Restarts of
codes come later than that; `tests/vqgan/test_codebook.py` has them.
"""

import numpy as np

from tests.golden import bands, drawn
from tests.vqgan import tiny
from training import optimizer
from vqgan import adversary, codebook, discriminator, quantizer

_PEAK = 1e-3
_SEEDS = 16  # pictures whose latents become the first codebook


def begin(peak=_PEAK, codes=(), critic=(), critic_peak=_PEAK, **changes):
  """Return (task, state, batches); changes of the quantizer and the critic."""
  rate = lambda peak: optimizer.make(
    peak=peak, schedule="constant", b1=0.5, b2=0.9
  )
  task = tiny.make_task(
    adversary.Adversary(
      discriminator.Discriminator(8, 1),
      **{"start": 10, "warmup": 5, **dict(critic)},
    ),
    quantizer.Nearest(32, 4, **dict(codes)),
    tx=rate(peak),
    adversary_tx=rate(critic_peak),
    **changes,
  )
  images, _ = drawn.pictures(task.size[0])
  state = bands.first_state(task, {"seeds": images[:_SEEDS]})
  rows = {"image": images, "example_id": np.arange(len(images), dtype="i4")}
  return task, _seeded(task, state, images[:_SEEDS]), drawn.batches(rows, 8)


def _seeded(task, state, images):
  """Put the codebook on latents of pictures, as `task.init` would."""
  generator = state.params["generator"]
  encode = tiny.jit(lambda *args: task.apply(*args, method="encode"))
  latents = np.asarray(encode(generator, task.pixels({"image": images})))
  latents = latents.reshape(-1, latents.shape[-1])
  num_codes = task.model.quantizer.num_codes
  chosen = np.random.default_rng(0).permutation(len(latents))[:num_codes]
  codes = task.model.quantizer.place(
    generator["quantizer"], np.ones(num_codes, bool), latents[chosen]
  )
  params = {**state.params, "generator": {**generator, "quantizer": codes}}
  model_state = {
    **state.model_state,
    "quantizer": codebook.initial_state(task.model.quantizer, codes),
  }
  return state.replace(params=params, model_state=model_state)


RUN = bands.Run(
  name="vqgan",
  begin=begin,
  tolerances={
    "train/loss": 0.01,
    "train/l1": 0.01,
    "train/codebook": 0.01,
    "codes/perplexity": 0.1,
    "adversary/discriminator_loss": 0.02,
    "adversary/generator_loss": 0.05,
    "adversary/adaptive_weight": 0.015,
  },
  changes={
    "half the rate": {"peak": _PEAK / 2},
    "half the discriminator's rate": {"critic_peak": _PEAK / 2},
    "half the adversarial weight": {"critic": {"weight": 0.4}},
    "another loss of the discriminator": {"critic": {"loss": "vanilla"}},
    "a longer warm-up": {"critic": {"warmup": 10}},
    "no loss of the codebook": {"codebook_weight": 0.0},
    "the authors' weights of the codebook": {"codes": {"legacy": True}},
  },
  steps=60,
)
