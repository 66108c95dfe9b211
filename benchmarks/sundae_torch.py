"""SUNDAE's reference network and sampler in PyTorch, to be timed against."""

import importlib

import numpy as np

from sundae import levels

torch = importlib.import_module("torch")
nn, functional = torch.nn, torch.nn.functional


def make_run(net, steps, batch, threads):
  """Return a function that draws a batch of samples.

  Args:
    net: `sundae.model.Hourglass`, a reference of one level.
    steps: of denoising.
    batch: samples.
    threads: of PyTorch.
  """
  torch.set_num_threads(threads)
  torch.manual_seed(0)
  network = Hourglass(net)
  shape = batch, net.grid[0] * net.grid[1]

  @torch.inference_mode()
  def run():
    codes = torch.randint(net.num_codes, shape)
    for _ in range(steps):
      weights = torch.softmax(network(codes) / 0.8, dim=-1)
      drawn = torch.multinomial(weights.flatten(0, 1), 1).view(shape)
      codes = torch.where(torch.rand(shape) < 0.5, drawn, codes)
    return codes.sum().item()

  return run


class Hourglass(nn.Module):
  """The network of the released code, on a square grid."""

  def __init__(self, net):
    super().__init__()
    shape, self.factor = net.shape, net.factors[0]
    self.grid, d = net.grid, shape.width
    self.table = nn.Embedding(net.num_codes, d)
    stack = lambda count: nn.ModuleList(Layer(shape) for _ in range(count))
    self.before, self.coarse, self.after = map(stack, net.layers)
    self.refine_down, self.refine_up = Layer(shape), Layer(shape)
    size = self.factor[0] * self.factor[1]
    self.down, self.up = nn.Linear(size * d, d), nn.Linear(d, size * d)
    self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, net.num_codes)
    angles = lambda grid, last: _turns(
      levels.reference_angles(grid, shape.head_width, shape.num_heads, last)
    )
    self.fine_turns = angles(net.grid, False)
    self.coarse_grid = levels.grids(net.grid, net.factors)[1]
    self.coarse_turns = angles(self.coarse_grid, True)

  def forward(self, codes):
    """Return logits [b, l, v] of codes [b, l]."""
    (i, j), (h, w) = self.factor, self.coarse_grid
    x = self.table(codes)
    b, l, d = x.shape
    for layer in self.before:
      x = layer(x, self.fine_turns)
    patches = x.view(b, h, i, w, j, d).permute(0, 1, 3, 5, 2, 4)
    y = self.down(patches.reshape(b, h * w, d * i * j))
    strips = x.reshape(b * h * w, i * j, d)
    y = self.refine_down(y.view(b * h * w, 1, d), None, strips)
    y = y.view(b, h * w, d)
    for layer in self.coarse:
      y = layer(y, self.coarse_turns)
    up = self.up(y).view(b, h, w, d, i, j).permute(0, 1, 4, 2, 5, 3)
    x = (x + up.reshape(b, l, d)).view(b * h * w, i * j, d)
    x = self.refine_up(x, None, y.view(b * h * w, 1, d)).view(b, l, d)
    for layer in self.after:
      x = layer(x, self.fine_turns)
    return self.head(self.norm(x))


class Layer(nn.Module):
  """Attention and feed-forward, each a pre-norm residual branch."""

  def __init__(self, shape):
    super().__init__()
    d, inner = shape.width, shape.num_heads * shape.head_width
    self.heads = shape.num_heads
    self.norm, self.feed_norm = nn.LayerNorm(d), nn.LayerNorm(d)
    self.query = nn.Linear(d, inner, bias=False)
    self.key_value = nn.Linear(d, 2 * inner, bias=False)
    self.out = nn.Linear(inner, d)
    self.feed = nn.Sequential(
      nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d)
    )

  def forward(self, x, turns, other=None):
    """Return x [b, l, d] after attending to itself, or to [b, s, d]."""
    split = lambda y: y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
    y = self.norm(x)
    q = split(self.query(y))
    k, v = map(
      split, self.key_value(y if other is None else other).chunk(2, -1)
    )
    if turns is not None:
      q, k = _turn(q, *turns), _turn(k, *turns)
    y = functional.scaled_dot_product_attention(q, k, v)
    x = x + self.out(y.transpose(1, 2).flatten(2))
    return x + self.feed(self.feed_norm(x))


def _turns(angles):
  """Return cosines and sines [n, l, k/2] of angles [l, n, k/2]."""
  angles = torch.from_numpy(np.ascontiguousarray(angles.swapaxes(0, 1)))
  return angles.cos(), angles.sin()


def _turn(x, cos, sin):
  even, odd = x[..., ::2], x[..., 1::2]
  turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1)
  return turned.flatten(-2)
