"""The same network in PyTorch, with the same weights, to be timed beside ours.

Written with torch.nn.functional alone, so that torchvision is not needed. In
PyTorch's own layout, `b c h w`.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from evaluation import preprocess


def make(
  params: Mapping[str, Any], mode: str
) -> Callable[[np.ndarray], np.ndarray] | None:
  """Returns uint8 images [b, h, w, 3] -> pool [b, 2048]; None without PyTorch.

  Args:
    params: of `evaluation.inception_weights`.
    mode: the preprocessing.
  """
  try:
    torch = importlib.import_module("torch")
  except ImportError:
    return None
  network = _Network(torch, params)

  def run(images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
      x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
      rows, columns = (
        torch.from_numpy(preprocess.matrix(size, mode)) for size in x.shape[2:]
      )
      x = rows @ x @ columns.T
      if mode == "clean":
        x = x.clamp(0, 255)
      x = x / 127.5 - 1 if mode == "pytorch_fid" else (x - 128) / 128
      return network.pool(x).numpy()

  return run


class _Network:
  """See `evaluation.inception`: blocks in the same order."""

  def __init__(self, torch: Any, params: Mapping[str, Any]):
    self._torch, self._f = torch, torch.nn.functional
    self._params = self._convert(params)

  def pool(self, x):
    """Maps pixels [b, 3, 299, 299] to [b, 2048]."""
    p = self._params
    x = self._conv(x, p["Conv2d_1a_3x3"], 2, 0)
    x = self._conv(x, p["Conv2d_2a_3x3"], 1, 0)
    x = self._conv(x, p["Conv2d_2b_3x3"])
    x = self._conv(self._max(x), p["Conv2d_3b_1x1"], 1, 0)
    x = self._max(self._conv(x, p["Conv2d_4a_3x3"], 1, 0))
    for name in ("5b", "5c", "5d"):
      x = self._wide(x, p[f"Mixed_{name}"])
    x = self._halve(x, p["Mixed_6a"])
    for name in ("6b", "6c", "6d", "6e"):
      x = self._long(x, p[f"Mixed_{name}"])
    x = self._halve_again(x, p["Mixed_7a"])
    x = self._last(x, p["Mixed_7b"], self._average)
    x = self._last(x, p["Mixed_7c"], lambda x: self._max(x, 1, 1))
    return x.mean((2, 3))

  def _wide(self, x, p):
    return self._join(
      self._conv(x, p["branch1x1"]),
      self._chain(x, p, "branch5x5_", 2),
      self._chain(x, p, "branch3x3dbl_", 3),
      self._conv(self._average(x), p["branch_pool"]),
    )

  def _halve(self, x, p):
    y = self._chain(x, p, "branch3x3dbl_", 2)
    return self._join(
      self._conv(x, p["branch3x3"], 2, 0),
      self._conv(y, p["branch3x3dbl_3"], 2, 0),
      self._max(x),
    )

  def _long(self, x, p):
    return self._join(
      self._conv(x, p["branch1x1"]),
      self._chain(x, p, "branch7x7_", 3),
      self._chain(x, p, "branch7x7dbl_", 5),
      self._conv(self._average(x), p["branch_pool"]),
    )

  def _halve_again(self, x, p):
    y = self._chain(x, p, "branch3x3_", 1)
    z = self._chain(x, p, "branch7x7x3_", 3)
    return self._join(
      self._conv(y, p["branch3x3_2"], 2, 0),
      self._conv(z, p["branch7x7x3_4"], 2, 0),
      self._max(x),
    )

  def _last(self, x, p, pool):
    y = self._conv(x, p["branch3x3_1"])
    z = self._chain(x, p, "branch3x3dbl_", 2)
    return self._join(
      self._conv(x, p["branch1x1"]),
      self._conv(y, p["branch3x3_2a"]),
      self._conv(y, p["branch3x3_2b"]),
      self._conv(z, p["branch3x3dbl_3a"]),
      self._conv(z, p["branch3x3dbl_3b"]),
      self._conv(pool(x), p["branch_pool"]),
    )

  def _convert(self, tree):
    if "conv" not in tree:
      return {k: self._convert(v) for k, v in tree.items() if k != "fc"}
    kernel, bias = (np.asarray(tree["conv"][k]) for k in ("kernel", "bias"))
    moved = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
    return self._torch.from_numpy(moved), self._torch.from_numpy(bias.copy())

  def _conv(self, x, p, stride=1, padding: Any = "same"):
    return self._f.relu(self._f.conv2d(x, *p, stride, padding))

  def _chain(self, x, p, prefix, count):
    for i in range(count):
      x = self._conv(x, p[f"{prefix}{i + 1}"])
    return x

  def _join(self, *branches):
    return self._torch.cat(branches, 1)

  def _max(self, x, stride=2, padding=0):
    return self._f.max_pool2d(x, 3, stride, padding)

  def _average(self, x):
    return self._f.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
