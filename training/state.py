"""The training state: everything a step reads and writes, as one struct."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class State:
  """Immutable training state; a step returns a new one.

  Attributes:
    step: int32 scalar, the number of finished steps.
    params: trained parameters, float32.
    ema: moving average of `params`, or None.
    opt_state: state of the optimiser, or a dict of several.
    model_state: what the model updates without a gradient (BatchNorm
      statistics, EMA codebooks).
    frozen: arrays that are read and never trained (tokenizers, LPIPS): nested
      dicts with string keys. Saved once a run.
  """

  step: jax.Array
  params: Any
  ema: Any
  opt_state: Any
  model_state: Any
  frozen: Any

  @classmethod
  def create(
    cls,
    params: Any,
    tx: optax.GradientTransformation,
    ema: bool = False,
    model_state: Any = None,
    frozen: Any = None,
  ) -> "State":
    """Start at step 0 with a fresh optimiser; `ema` starts at `params`."""
    return cls(
      step=jnp.zeros((), jnp.int32),
      params=params,
      # A copy: the same buffer twice in a donated state is an error.
      ema=jax.tree.map(jnp.copy, params) if ema else None,
      opt_state=tx.init(params),
      model_state={} if model_state is None else model_state,
      frozen={} if frozen is None else frozen,
    )

  @property
  def sampling_params(self) -> Any:
    """The parameters to sample and evaluate with: the average, if kept."""
    return self.params if self.ema is None else self.ema
