"""The autoencoder of `vqgan.autoencoder` in PyTorch, to be timed against."""

import importlib

import numpy as np

torch = importlib.import_module("torch")
nn, functional = torch.nn, torch.nn.functional


def make_run(shape, pixels, backward, threads):
  """Return a function that runs the network once.

  Args:
    shape: `autoencoder.Shape`.
    pixels: float32 [b, h, w, c].
    backward: also the gradients of all parameters.
    threads: of PyTorch.
  """
  torch.set_num_threads(threads)
  torch.manual_seed(0)
  layout = torch.channels_last
  model = Autoencoder(shape).to(memory_format=layout)
  x = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
  x = x.to(memory_format=layout)

  def run():
    if not backward:
      with torch.no_grad():
        return float(model(x))
    model.zero_grad(set_to_none=True)
    loss = model(x)
    loss.backward()
    return float(loss)

  return run


class Autoencoder(nn.Module):
  """Encoder, nearest code of 1,024, decoder; returns the loss."""

  def __init__(self, shape):
    super().__init__()
    self.encoder, self.decoder = _encoder(shape), _decoder(shape)
    self.before = nn.Conv2d(shape.z_channels, 256, 1)
    self.after = nn.Conv2d(256, shape.z_channels, 1)
    self.codebook = nn.Embedding(1024, 256)

  def forward(self, x):
    z = self.before(self.encoder(x)).permute(0, 2, 3, 1)
    flat, book = z.reshape(-1, 256), self.codebook.weight
    distances = (book**2).sum(1) - 2 * flat @ book.T
    chosen = self.codebook(distances.argmin(1)).view(z.shape)
    loss = ((chosen.detach() - z) ** 2).mean() * 0.25
    loss = loss + ((chosen - z.detach()) ** 2).mean()
    z = (z + (chosen - z).detach()).permute(0, 3, 1, 2)
    return (self.decoder(self.after(z)) - x).abs().mean() + loss


def _encoder(shape):
  width = shape.channels
  layers = [_conv(shape.in_channels, width)]
  for i, multiplier in enumerate(shape.multipliers):
    for _ in range(shape.num_blocks):
      layers.append(_Residual(width, shape.channels * multiplier))
      width = shape.channels * multiplier
      layers += [_Attention(width)] * shape.attends(i)
    if i + 1 < len(shape.multipliers):
      layers += [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(width, width, 3, 2)]
  layers += _middle(width) + _last(width, shape.z_channels)
  return nn.Sequential(*layers)


def _decoder(shape):
  width = shape.channels * shape.multipliers[-1]
  layers = [_conv(shape.z_channels, width), *_middle(width)]
  for i in reversed(range(len(shape.multipliers))):
    for _ in range(shape.num_blocks + 1):
      layers.append(_Residual(width, shape.channels * shape.multipliers[i]))
      width = shape.channels * shape.multipliers[i]
      layers += [_Attention(width)] * shape.attends(i)
    if i:
      layers += [nn.Upsample(scale_factor=2), _conv(width, width)]
  return nn.Sequential(*layers, *_last(width, shape.in_channels))


def _middle(width):
  return [_Residual(width, width), _Attention(width), _Residual(width, width)]


def _last(width, channels):
  return [_norm(width), nn.SiLU(), _conv(width, channels)]


def _conv(channels, width):
  return nn.Conv2d(channels, width, 3, padding=1)


def _norm(width):
  return nn.GroupNorm(min(32, width), width, eps=1e-6)


class _Residual(nn.Module):
  def __init__(self, channels, width):
    super().__init__()
    self.path = nn.Sequential(
      *(_norm(channels), nn.SiLU(), _conv(channels, width)),
      *(_norm(width), nn.SiLU(), _conv(width, width)),
    )
    self.skip = (
      nn.Identity() if channels == width else nn.Conv2d(channels, width, 1)
    )

  def forward(self, x):
    return self.skip(x) + self.path(x)


class _Attention(nn.Module):
  def __init__(self, width):
    super().__init__()
    self.norm = _norm(width)
    self.q, self.k, self.v, self.out = (
      nn.Conv2d(width, width, 1) for _ in range(4)
    )

  def forward(self, x):
    y = self.norm(x)
    q, k, v = (
      layer(y).flatten(2).transpose(1, 2) for layer in (self.q, self.k, self.v)
    )
    y = functional.scaled_dot_product_attention(q, k, v)
    return x + self.out(y.transpose(1, 2).reshape(x.shape))
