"""The released network's weights, in our network's places."""

import numpy as np

from layers import transformer
from sundae import model
from tests import shared


def load():
  """Return (network, its parameters, arrays) of the fixture."""
  arrays = dict(np.load(shared.shared_dir("golden", "sundae", "tiny.npz")))
  net = model.Hourglass(
    (8, 8),
    32,
    transformer.Shape(
      width=32,
      num_heads=2,
      head_width=16,
      gate=None,
      qkv_bias=False,
      epsilon=1e-5,
    ),
    num_classes=3,
    layers=(1, 2, 1),
    reference=True,
  )
  weights = {k[2:]: x for k, x in arrays.items() if k.startswith("w/")}
  return net, params(weights), arrays


def params(weights):
  """Return the parameters of `model.Hourglass` for the fixture's weights.

  Args:
    weights: arrays by the name that the released code gives them.
  """
  take = lambda name: np.asarray(weights[name])
  dense = lambda name: {
    "kernel": take(f"{name}.weight").T,
    "bias": take(f"{name}.bias"),
  }
  norm = lambda name: {
    "scale": take(f"{name}.weight"),
    "bias": take(f"{name}.bias"),
  }

  def attend(name):
    key, value = np.split(take(f"{name}.fn.to_kv.weight"), 2)
    query = take(f"{name}.fn.to_q.weight")
    layer = {
      "query": {"kernel": query.T},
      "key": {"kernel": key.T},
      "value": {"kernel": value.T},
      "out": dense(f"{name}.fn.to_out"),
    }
    return {"norm": norm(f"{name}.norm"), "layer": layer}

  def feed(name):
    layer = {"wide": dense(f"{name}.fn.0"), "narrow": dense(f"{name}.fn.3")}
    return {"norm": norm(f"{name}.norm"), "layer": layer}

  def stack(name):
    blocks, index = [], 0
    while f"{name}.layers.{index}.0.norm.weight" in weights:
      prefix = f"{name}.layers.{index}"
      blocks.append(
        {
          "attend_self": attend(f"{prefix}.0"),
          "feed_forwards_0": feed(f"{prefix}.1"),
        }
      )
      index += 1
    return {"runs_0": _stacked(blocks)}

  refine = lambda name: {
    "attend": attend(f"{name}.layers.0.0"),
    "feed": feed(f"{name}.layers.0.1"),
  }
  # The null class has no counterpart there.
  classes = take("class_emb.weight")
  classes = np.concatenate([classes, np.zeros_like(classes[:1])])
  body = {
    "before": stack("transformer.pre_transformer"),
    "after": stack("transformer.post_transformer"),
    "down": dense("transformer.downsample.proj"),
    "up": dense("transformer.upsample.proj"),
    "refine_down": refine("transformer.attn_resampling_pre_valley"),
    "refine_up": refine("transformer.attn_resampling_post_valley"),
    "coarse": {"before": stack("transformer.valley_transformer")},
  }
  return {
    "params": {
      "body": body,
      "code_table": {"embedding": take("token_emb.weight")},
      "class_table": {"embedding": classes},
      "norm": norm("transformer.norm_out"),
      "head": dense("to_logits"),
    }
  }


def _stacked(trees):
  if isinstance(trees[0], dict):
    return {name: _stacked([x[name] for x in trees]) for name in trees[0]}
  return np.stack(trees)
