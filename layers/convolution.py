"""Convolutions as `flax.linen.Conv(conv_general_dilated=...)` takes them.

`convolve` is XLA's own, with a gradient to the kernel that is fast on CPUs
too; `convolve_doubled` is a convolution of an image made twice as large.

Shapes: b batch, h w rows and columns, c channels in, o channels out, k window.
"""

import functools
import math

import jax
import jax.numpy as jnp
from einops import rearrange

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_POSITIONS = 1024  # outputs whose windows are laid out at once, in the cache


def convolve(
  x,
  kernel,
  strides,
  padding,
  *,
  lhs_dilation=None,
  rhs_dilation=None,
  dimension_numbers=None,
  feature_group_count=1,
  precision=None,
):
  """Convolve images [b, h, w, c] with a kernel [k, k, c, o].

  On CPUs XLA takes the gradient to a kernel for a convolution whose window is
  the whole image, which is several times slower than the forward pass; here it
  is matrix products of a few rows at a time (`benchmarks.convolution`).

  Args:
    x: [b, h, w, c].
    kernel: [k, k, c, o], of the dtype of x.
    strides: steps along rows and columns.
    padding: "SAME", "VALID" or ((above, below), (left, right)).
    lhs_dilation: only none; like the next three it is here because flax gives
      all of them.
    rhs_dilation: only none.
    dimension_numbers: only images as NHWC and kernels as HWIO.
    feature_group_count: only 1.
    precision: of the products, as XLA names it.

  Returns:
    [b, h', w', o].

  Raises:
    ValueError: of dilated or grouped convolutions and of other layouts.
  """
  if dimension_numbers is not None:
    given, ours = (
      jax.lax.conv_dimension_numbers(x.shape, kernel.shape, layout)
      for layout in (dimension_numbers, _LAYOUT)
    )
    if given != ours:
      raise ValueError("images must be NHWC and kernels HWIO")
  dilated = math.prod((*(lhs_dilation or (1,)), *(rhs_dilation or (1,))))
  if dilated != 1 or feature_group_count != 1:
    raise ValueError("neither dilated nor grouped convolutions are known")
  strides = tuple(strides)
  padding = _pads(x, kernel.shape[:2], strides, padding)
  return _convolve(x, kernel, strides, padding, precision)


def gradient_to_kernel(
  x, g, window, strides=(1, 1), padding="SAME", precision=None
):
  """Return the gradient of sum(g convolve(x, kernel)) to the kernel.

  Args:
    x: [b, h, w, c].
    g: [b, h', w', o].
    window: rows and columns of the kernel.
    strides: as of `convolve`, like the next two.
    padding: as of `convolve`.
    precision: as of `convolve`.

  Returns:
    [k, k, c, o] in the dtype of g.
  """
  padding = _pads(x, window, strides, padding)
  kernel = jax.ShapeDtypeStruct((*window, x.shape[-1], g.shape[-1]), g.dtype)

  def transposed(x, g):
    forward = lambda k: _by_xla(x, k, strides, padding, precision)
    return jax.linear_transpose(forward, kernel)(g)[0]

  by_rows = functools.partial(_by_rows, window, strides, padding, precision)
  return jax.lax.platform_dependent(x, g, cpu=by_rows, default=transposed)


def convolve_doubled(x, kernel, strides, padding, **options):
  """Convolve images made twice as large by repeating every pixel.

  Equal to `convolve(x repeated along both axes)` with a window of 3 and zeros
  around, up to rounding: an output sees 2 x 2 pixels only, through sums of the
  kernel's rows and columns, which are 4/9 of the products, and the large
  image is never made (a form of Shi et al. 2016, "Is the deconvolution layer
  the same as a convolutional layer?").

  Args:
    x: [b, h, w, c].
    kernel: [3, 3, c, o].
    strides: (1, 1).
    padding: "SAME".
    **options: as of `convolve`.

  Returns:
    [b, 2h, 2w, o].

  Raises:
    ValueError: of another window, stride or padding.
  """
  if kernel.shape[:2] != (3, 3) or set(strides) != {1} or padding != "SAME":
    raise ValueError("only windows of 3 with stride 1 and SAME")
  rows = _phases(kernel)
  columns = [_phases(jnp.moveaxis(row, 1, 0)) for row in rows]
  images = [
    convolve(
      x,
      jnp.moveaxis(columns[i][j], 0, 1),
      (1, 1),
      ((1 - i, i), (1 - j, j)),
      **options,
    )
    for i in range(2)
    for j in range(2)
  ]
  return rearrange(jnp.stack(images), "(i j) b h w o -> b (h i) (w j) o", i=2)


def _pads(x, window, strides, padding):
  """Return ((above, below), (left, right)) as whole numbers."""
  if isinstance(padding, str):
    padding = jax.lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
  return tuple((int(before), int(after)) for before, after in padding)


def _phases(kernel):
  """Return the windows of 2 that even and odd outputs see, along axis 0."""
  even = jnp.stack([kernel[0], kernel[1] + kernel[2]])
  odd = jnp.stack([kernel[0] + kernel[1], kernel[2]])
  return even, odd


def _by_xla(x, kernel, strides, padding, precision):
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    strides,
    padding,
    dimension_numbers=_LAYOUT,
    precision=precision,
  )


_convolve = jax.custom_vjp(_by_xla, nondiff_argnums=(2, 3, 4))


def _forward(x, kernel, *static):
  return _by_xla(x, kernel, *static), (x, kernel)


def _backward(strides, padding, precision, kept, g):
  x, kernel = kept
  forward = lambda x: _by_xla(x, kernel, strides, padding, precision)
  (to_x,) = jax.linear_transpose(forward, x)(g)
  window = kernel.shape[:2]
  return to_x, gradient_to_kernel(x, g, window, strides, padding, precision)


_convolve.defvjp(_forward, _backward)


def _by_rows(window, strides, padding, precision, x, g):
  """Return the gradient to the kernel from x [b, h, w, c], g [b, h', w', o].

  It is windows^T g, a sum over all outputs: a few rows of outputs at a time,
  so that their windows stay in the processor's cache.
  """
  batch, height, width, _ = g.shape
  at_once = max(1, _POSITIONS // (batch * width))
  rows = next(n for n in range(at_once, 0, -1) if height % n == 0)
  # Pixels that no window reaches are cut, and missing ones are zeros.
  low = [before for before, _ in padding]
  spans = [
    (n - 1) * stride + k
    for n, stride, k in zip(g.shape[1:3], strides, window, strict=True)
  ]
  high = [
    span - size - before
    for span, size, before in zip(spans, x.shape[1:3], low, strict=True)
  ]
  edges = [(0, 0, 0), *((a, b, 0) for a, b in zip(low, high, strict=True))]
  x = jax.lax.pad(x, jnp.zeros((), x.dtype), [*edges, (0, 0, 0)])

  def add(total, i):
    start = i * rows * strides[0]
    pixels = jax.lax.dynamic_slice_in_dim(
      x, start, (rows - 1) * strides[0] + window[0], 1
    )
    windows = jnp.concatenate(
      [
        pixels[
          :,
          p : p + (rows - 1) * strides[0] + 1 : strides[0],
          q : q + (width - 1) * strides[1] + 1 : strides[1],
        ]
        for p in range(window[0])
        for q in range(window[1])
      ],
      -1,
    )  # [b, rows, w', k k c]
    part = jnp.einsum(
      "brwk,brwo->ko",
      windows,
      jax.lax.dynamic_slice_in_dim(g, i * rows, rows, 1),
      precision=precision,
      preferred_element_type=jnp.float32,
    )
    return total + part, None

  size = math.prod(window) * x.shape[-1]
  total = jnp.zeros((size, g.shape[-1]), jnp.float32)
  total, _ = jax.lax.scan(add, total, jnp.arange(height // rows))
  total = total.astype(g.dtype)
  return total.reshape(*window, x.shape[-1], g.shape[-1])
