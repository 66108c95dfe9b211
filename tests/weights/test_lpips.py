import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.shared import shared_dir
from weights import backbones, lpips, torch_file

PAIRS = ("ex_ref|ex_p0", "ex_ref|ex_p1")
NETS = ("alex", "squeeze", "vgg")


@pytest.mark.parametrize("net", NETS)
def test_distances_equal_the_reference(net):
  folder = shared_dir("golden", "evaluation")
  with open(folder / "lpips_psnr_ssim.json") as file:
    known = json.load(file)["lpips_random_backbone_real_lin_v0.1"][net]
  images = np.load(folder / "lpips_psnr_ssim.npz")
  heads = shared_dir("data", "lpips_v0.1", f"{net}.pth")
  params = lpips.random(net)
  for name, head in torch_file.state_dict(heads).items():
    params["heads"][name.split(".")[0]] = jnp.asarray(head.reshape(-1))
  first, second = (
    np.stack([images[pair.split("|")[side]] for pair in PAIRS]) / 127.5 - 1
    for side in (0, 1)
  )
  terms = jax.jit(partial(lpips.layers, net=net))(params, first, second)
  expected = np.array([known[pair]["per_layer"] for pair in PAIRS])
  np.testing.assert_allclose(np.stack(terms, 1), expected, atol=1e-6)
  totals = np.array([known[pair]["d"] for pair in PAIRS])
  np.testing.assert_allclose(sum(terms), totals, rtol=1e-5, atol=1e-6)


def test_random_weights_follow_their_names():
  known = shared_dir("golden", "evaluation", "lpips_psnr_ssim.json")
  check = json.loads(known.read_text())["weight_check"]
  kernel = lpips.random("vgg")["backbone"]["features_0"]["kernel"]
  first = np.array(check["vgg16/features.0.weight[0,0]"])
  np.testing.assert_allclose(kernel[:, :, 0, 0], first, rtol=1e-6)
  other = lpips.random("vgg", seed=1)["backbone"]["features_0"]["kernel"]
  assert not np.allclose(kernel, other)


def test_identical_and_black_images_have_finite_gradients():
  params = lpips.random("alex")
  # Without biases this grey is exactly zero in every tap.
  grey = jnp.broadcast_to(jnp.asarray(lpips._SHIFT), (1, 35, 35, 3))
  for conv in params["backbone"].values():
    conv["bias"] = jnp.zeros_like(conv["bias"])

  @jax.jit
  @jax.value_and_grad
  def loss(x, y, params):
    return lpips.distance(params, x, y, net="alex", dtype=jnp.bfloat16).sum()

  value, gradient = loss(grey, grey, params)
  assert value == 0 and jnp.isfinite(gradient).all()
  value, gradient = loss(grey, grey.at[:, 9, 9].add(1.0), params)
  assert value > 0 and jnp.isfinite(gradient).all()


def test_images_too_small_for_the_network_are_refused():
  image = np.zeros((1, 8, 8, 3), np.float32)
  with pytest.raises(ValueError, match="8 x 8 are too small"):
    jax.eval_shape(
      partial(lpips.distance, net="alex"), lpips.random("alex"), image, image
    )


def test_conversion_names_what_is_wrong():
  shapes = backbones.shapes("alex")
  tensors = {k: np.zeros(v, np.float32) for k, v in shapes.items()}
  heads = {
    f"lin{i}.model.1.weight": np.ones((1, c, 1, 1), np.float32)
    for i, c in enumerate((64, 192, 384, 256, 256))
  }
  lpips.convert("alex", tensors, heads)
  with pytest.raises(ValueError, match=r"no tensor features\.8\.bias"):
    lpips.convert(
      "alex",
      {k: v for k, v in tensors.items() if k != "features.8.bias"},
      heads,
    )
  wrong = tensors | {"features.0.weight": np.zeros((64, 3, 3, 3))}
  with pytest.raises(ValueError, match=r"\(64, 3, 11, 11\)"):
    lpips.convert("alex", wrong, heads)
  with pytest.raises(ValueError, match="negative"):
    lpips.convert(
      "alex", tensors, heads | {"lin0.model.1.weight": -np.ones((1, 64, 1, 1))}
    )
  with pytest.raises(ValueError, match="not one of alex, vgg, squeeze"):
    lpips.convert("resnet", tensors, heads)
