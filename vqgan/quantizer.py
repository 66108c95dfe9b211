"""Quantizers: latents to codes of a finite set.

Shapes: b batch, h w grid, c width of a latent, v codes. Every quantizer is a
module that maps z [b, h, w, c] to `Quantized`; how its codebook begins and
stays alive is in `vqgan.codebook`.
"""

import math

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

_PIECE = 2048  # codes compared at once
_PRECISION = jax.lax.Precision.HIGHEST


@flax.struct.dataclass
class Quantized:
  """What a quantizer makes of latents.

  Attributes:
    z: float32 [b, h, w, c], with a gradient to the latents.
    codes: int32 [b, h, w].
    likeliest: int32 [b, h, w], the codes that evaluation takes: those before
      any noise of training.
    loss: float32 scalar, the weighted sum of `terms`.
    terms: the unweighted losses by name, float32 scalars.
  """

  z: jax.Array
  codes: jax.Array
  likeliest: jax.Array
  loss: jax.Array
  terms: dict[str, jax.Array]


class Nearest(nn.Module):
  """The nearest code of a learned codebook (van den Oord et al. 2017).

  Attributes:
    num_codes: v.
    width: c.
    beta: weight of the commitment loss mean((z - sg[zq])^2); the codebook
      loss mean((sg[z] - zq)^2) has weight 1.
    legacy: swap the two weights, as every published VQGAN was trained; the
      authors' moving averages do not.
    unit: compare directions: latents and codes are scaled to length 1 (Yu et
      al. 2022, sec. 3.2), best with a small width such as 8.
    average: learn the codes as moving averages of the latents that chose
      them (van den Oord et al. 2017, app. A.1) instead of by gradients.
    decay: of the moving averages.
    restart: put a dead code on a random latent of the batch.
    dead_after: steps without use after which a code is dead.
  """

  num_codes: int
  width: int
  beta: float = 0.25
  legacy: bool = False
  unit: bool = False
  average: bool = False
  decay: float = 0.99
  restart: bool = True
  dead_after: int = 100

  def setup(self):
    self.codebook = self.param(
      "codebook", _uniform(1 / self.num_codes), (self.num_codes, self.width)
    )

  def __call__(self, z, *, train=False, temperature=None):
    """Return `Quantized` of z [b, h, w, c]; straight-through gradients."""
    del train, temperature
    z = self.normal(z)
    codes = nearest(jax.lax.stop_gradient(z), self.normal(self.codebook))
    chosen = self.embed(codes)
    fixed = jax.lax.stop_gradient
    terms = {"commitment": _mean_square(z - fixed(chosen))}
    if not self.average:
      terms["codebook"] = _mean_square(fixed(z) - chosen)
    weights = {"codebook": 1.0, "commitment": self.beta}
    if self.legacy and not self.average:
      weights = {"codebook": self.beta, "commitment": 1.0}
    loss = sum(weights[name] * term for name, term in terms.items())
    return Quantized(z + fixed(chosen - z), codes, codes, loss, terms)

  def embed(self, codes):
    """Return the latents [b, h, w, c] of codes [b, h, w]."""
    return jnp.take(self.normal(self.codebook), codes, axis=0)

  @nn.nowrap
  def normal(self, z):
    """Return float32 z, of length 1 where `unit`."""
    z = z.astype(jnp.float32)
    if not self.unit:
      return z
    return z * jax.lax.rsqrt(jnp.sum(z * z, -1, keepdims=True) + 1e-12)

  @nn.nowrap
  def place(self, params, where, latents):
    """Put the codes where bool [v] holds on latents [v, c]."""
    codebook = jnp.where(where[:, None], latents, params["codebook"])
    return {**params, "codebook": codebook}


class Gumbel(nn.Module):
  """Codes drawn by logits of the latents (Jang et al. 2017; `taming`).

  In training z is a straight-through mixture of codes under Gumbel noise;
  in evaluation it is the likeliest code, without noise.

  Attributes:
    num_codes: v.
    width: c.
    kl_weight: weight of the divergence of the codes from uniform, in nats.
    sharpness: how peaked the logits are on a codebook placed on data: the
      logits are those of a mixture of Gaussians with this inverse variance,
      in units of the mean squared length of the latents about their mean.
    restart: put a dead code on a random latent of the batch.
    dead_after: steps without use after which a code is dead.
  """

  num_codes: int
  width: int
  kl_weight: float = 5e-4
  sharpness: float = 10.0
  restart: bool = True
  dead_after: int = 100
  average = False

  def setup(self):
    shape = (self.num_codes, self.width)
    self.codebook = self.param("codebook", nn.initializers.normal(1.0), shape)
    self.logits = nn.Dense(self.num_codes, precision=_PRECISION)

  def __call__(self, z, *, train=False, temperature=None):
    """Return `Quantized` of z [b, h, w, c]; training needs a temperature."""
    logits = self.logits(z.astype(jnp.float32))  # [b, h, w, v]
    q = jax.nn.softmax(logits)
    kl = jnp.sum(q * jnp.log(q * self.num_codes + 1e-10), -1).mean()
    codes = likeliest = jnp.argmax(logits, -1).astype(jnp.int32)
    if train:
      noise = jax.random.gumbel(self.make_rng("gumbel"), logits.shape)
      logits = logits + noise
      codes = jnp.argmax(logits, -1).astype(jnp.int32)
      soft = jax.nn.softmax(logits / temperature)
      hard = jax.nn.one_hot(codes, self.num_codes)
      mixture = soft + jax.lax.stop_gradient(hard - soft)
      z = jnp.einsum(
        "bhwv,vc->bhwc", mixture, self.codebook, precision=_PRECISION
      )
    else:
      z = self.embed(codes)
    return Quantized(z, codes, likeliest, self.kl_weight * kl, {"kl": kl})

  def embed(self, codes):
    """Return the latents [b, h, w, c] of codes [b, h, w]."""
    return jnp.take(self.codebook, codes, axis=0)

  @nn.nowrap
  def normal(self, z):
    """Return float32 z."""
    return z.astype(jnp.float32)

  @nn.nowrap
  def place(self, params, where, latents):
    """Put the codes where bool [v] holds on latents [v, c], logits too."""
    spread = jnp.sum(jnp.var(latents, axis=0)) + 1e-12
    scale = self.sharpness / spread
    kernel = scale * latents.T  # [c, v]
    bias = -0.5 * scale * jnp.sum(latents**2, axis=1)
    old = params["logits"]
    return {
      "codebook": jnp.where(where[:, None], latents, params["codebook"]),
      "logits": {
        "kernel": jnp.where(where, kernel, old["kernel"]),
        "bias": jnp.where(where, bias, old["bias"]),
      },
    }


class Finite(nn.Module):
  """Finite scalar quantization: rounded coordinates (Mentzer et al. 2023).

  There is no codebook and no loss: code = mixed-radix number of the rounded
  coordinates, the first of them the least.

  Attributes:
    levels: values per coordinate, each at least 3: the formula's shift leaves
      two of them hardly a gradient.
    dead_after: steps without use after which a code counts as dead.
  """

  levels: tuple[int, ...]
  dead_after: int = 100
  average = False
  restart = False

  @property
  def width(self):
    """c, the number of coordinates."""
    return len(self.levels)

  @property
  def num_codes(self):
    """v, the product of the levels."""
    return math.prod(self.levels)

  def __call__(self, z, *, train=False, temperature=None):
    """Return `Quantized` of z [b, h, w, c]; straight-through gradients."""
    del train, temperature
    levels = jnp.asarray(self.levels, jnp.float32)
    half = (levels - 1) * (1 + 1e-3) / 2
    offset = jnp.where(levels % 2 == 0, 0.5, 0.0)
    shift = jnp.arctanh(offset / half)
    bounded = jnp.tanh(z.astype(jnp.float32) + shift) * half - offset
    rounded = bounded + jax.lax.stop_gradient(jnp.round(bounded) - bounded)
    digits = jnp.round(bounded) + levels // 2
    codes = jnp.sum(digits.astype(jnp.int32) * self._basis(), -1)
    zero = jnp.zeros((), jnp.float32)
    return Quantized(rounded / (levels // 2), codes, codes, zero, {})

  def embed(self, codes):
    """Return the latents [b, h, w, c], in [-1, 1], of codes [b, h, w]."""
    levels = jnp.asarray(self.levels)
    digits = codes[..., None] // self._basis() % levels
    return (digits - levels // 2) / (levels // 2).astype(jnp.float32)

  @nn.nowrap
  def normal(self, z):
    """Return float32 z."""
    return z.astype(jnp.float32)

  @nn.nowrap
  def place(self, params, where, latents):
    """Return params: there are no codes to put anywhere."""
    del where, latents
    return params

  @nn.nowrap
  def _basis(self):
    return jnp.asarray(
      [math.prod(self.levels[:i]) for i in range(len(self.levels))], jnp.int32
    )


def nearest(z, codebook):
  """Return the index of the nearest row of the codebook, ties to the lowest.

  The distances |e|^2 - 2 z e are float32, for 2,048 codes at a time, which
  keeps the batch sharded as it is.

  Args:
    z: [..., c].
    codebook: [v, c].

  Returns:
    int32 [...].
  """
  z, codebook = z.astype(jnp.float32), codebook.astype(jnp.float32)
  size = codebook.shape[0]
  num = -(-size // _PIECE)
  piece = -(-size // num)
  padding = num * piece - size
  norms = jnp.sum(codebook**2, axis=1)
  norms = jnp.pad(norms, (0, padding), constant_values=jnp.inf)
  codebook = jnp.pad(codebook, ((0, padding), (0, 0)))

  def compare(best, part):
    codes, norms, first = part
    product = jnp.einsum("...c,vc->...v", z, codes, precision=_PRECISION)
    distances = norms - 2 * product  # [..., v]
    index = jnp.argmin(distances, -1).astype(jnp.int32)
    distance = jnp.min(distances, -1)
    closer = distance < best[1]
    index = jnp.where(closer, first + index, best[0])
    return (index, jnp.where(closer, distance, best[1])), None

  parts = (
    codebook.reshape(num, piece, -1),
    norms.reshape(num, piece),
    piece * jnp.arange(num, dtype=jnp.int32),
  )
  start = (
    jnp.zeros(z.shape[:-1], jnp.int32),
    jnp.full(z.shape[:-1], jnp.inf),
  )
  if num == 1:
    (index, _), _ = compare(start, jax.tree.map(lambda x: x[0], parts))
  else:
    (index, _), _ = jax.lax.scan(compare, start, parts)
  return index


def temperature(step, start=0.9, end=1e-6, steps=1_000_001):
  """Return the Gumbel temperature of a step: a cosine from start to end.

  The defaults are those of the authors' f = 8 model (`taming`,
  LambdaWarmUpCosineScheduler without a warm-up).
  """
  t = jnp.minimum(step / steps, 1.0)
  return end + 0.5 * (start - end) * (1.0 + jnp.cos(t * jnp.pi))


def _uniform(bound):
  return lambda key, shape: jax.random.uniform(
    key, shape, minval=-bound, maxval=bound
  )


def _mean_square(x):
  return jnp.mean(jnp.square(x))
