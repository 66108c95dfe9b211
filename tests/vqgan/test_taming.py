"""The authors' checkpoints: equal numbers, and errors that name everything."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import shared
from tests.vqgan import tiny
from vqgan import (
  autoencoder,
  discriminator,
  losses,
  quantizer,
  taming,
  taming_tensors,
)
from weights import safetensors


@functools.cache
def _reference():
  """The reference first stage: arrays, tensors and settings."""
  path = shared.shared_dir("golden", "taming", "vq_small.npz")
  tensors = taming.read(path.with_suffix(".ckpt"))
  config = taming.read_config(path.with_suffix(".yaml"))
  return np.load(path), tensors, taming.from_config(config, tensors)


def _nhwc(array):
  return array.transpose(0, 2, 3, 1)


@functools.cache
def _run(module):
  """Return the jitted encoder and decoder: latents, codes and an image."""

  @tiny.jit
  def run(params, image, codes):
    z = module.apply({"params": params}, image, method="encode")
    found = module.apply({"params": params}, image, method="tokenize")
    return z, found, module.apply({"params": params}, codes, method="decode")

  return run


def test_reference_first_stage_gives_the_same_numbers():
  golden, tensors, stage = _reference()
  params, _ = taming_tensors.variables(tensors, stage)
  generator, image = params["generator"], _nhwc(golden["x_nchw"])[:1]
  run = _run(stage.module())
  z, codes, decoded = run(generator, image, golden["rolled_indices"][:1])
  np.testing.assert_allclose(z, _nhwc(golden["pre_quant"])[:1], atol=1e-4)
  np.testing.assert_array_equal(codes, golden["indices"][:1])
  np.testing.assert_allclose(
    decoded, _nhwc(golden["rec_from_rolled"])[:1], atol=1e-4
  )
  _, _, again = run(generator, image, codes)
  np.testing.assert_allclose(again, _nhwc(golden["rec"])[:1], atol=1e-4)
  quantized = stage.quantizer.apply(
    {"params": generator["quantizer"]}, _nhwc(golden["pre_quant"])
  )
  np.testing.assert_array_equal(quantized.codes, golden["indices"])
  np.testing.assert_allclose(quantized.loss, golden["qloss_legacy"], rtol=1e-5)


def test_first_stage_inside_a_transformer_is_read_by_its_prefix():
  path = shared.shared_dir("golden", "taming", "n2n_class.npz")
  golden = np.load(path)
  tensors = taming.read(path.with_suffix(".ckpt"))
  config = taming.read_config(path.with_suffix(".yaml"))
  tensors = taming.part(tensors, "first_stage_model.")
  stage = taming.from_config(config["params"]["first_stage_config"], tensors)
  assert stage.critic is None
  params, _ = taming_tensors.variables(tensors, stage)
  codes = golden["z_indices"].reshape(4, 16, 16)[:1]
  _, found, decoded = _run(stage.module())(
    params["generator"], _nhwc(golden["x_nchw"])[:1], codes
  )
  np.testing.assert_array_equal(found, codes)
  np.testing.assert_allclose(
    decoded, _nhwc(golden["img_from_z"])[:1], atol=1e-4
  )


def test_reference_discriminator_gives_the_same_numbers():
  golden = np.load(shared.shared_dir("golden", "taming", "disc_small.npz"))
  _, tensors, stage = _reference()
  params, state = taming_tensors.variables(tensors, stage)
  real, made = _nhwc(golden["x"]), _nhwc(golden["fake"])

  @tiny.jit
  def run(params, stats, pixels):
    apply = functools.partial(
      stage.critic.apply, {"params": params, "batch_stats": stats}, pixels
    )
    logits, changed = apply(train=True, mutable=["batch_stats"])
    return apply(), logits, changed["batch_stats"]

  critic = params["discriminator"]
  on_real, trained_real, stats = run(critic, state["discriminator"], real)
  on_made, _, _ = run(critic, state["discriminator"], made)
  _, trained_made, stats = run(critic, stats, made)
  for found, name in (
    (on_real, "eval_logits_real"),
    (on_made, "eval_logits_fake"),
    (trained_real, "train_logits_real"),
    (trained_made, "train_logits_fake"),
  ):
    np.testing.assert_allclose(found, golden[name][:, 0], atol=1e-5)
  for found, name in (("mean", "running_mean"), ("var", "running_var")):
    np.testing.assert_allclose(
      stats["norm_1"][found], golden[f"{name}_after"], rtol=1e-6
    )
  for name in losses.DISCRIMINATOR_LOSSES:
    loss = losses.discriminator(name, on_real, on_made)
    np.testing.assert_allclose(loss, golden[name], rtol=1e-5)
  loss = losses.generator(on_made)
  np.testing.assert_allclose(loss, golden["g_loss"], rtol=1e-4)


def test_shapes_tell_what_the_yaml_tells():
  _, tensors, stage = _reference()
  told = taming.from_shapes(tensors, resolution=64)
  assert told.shape == stage.shape
  assert told.quantizer == stage.quantizer
  assert told.critic == stage.critic
  assert stage.learning_rate(16) == pytest.approx(16 * 4.5e-6)


def test_exported_tensors_are_the_imported_ones(tmp_path):
  _, tensors, stage = _reference()
  params, _ = taming_tensors.variables(tensors, stage)
  path = tmp_path / "stage.safetensors"
  safetensors.save(path, taming_tensors.export(params["generator"]))
  again = taming.read(path)
  for name, tensor in again.items():
    np.testing.assert_array_equal(tensor, tensors[name])
  assert taming.from_shapes(again, 64).quantizer == stage.quantizer


def _tiny_tensors(module):
  """Tensors by the authors' names of a small model of ours."""
  shape = dataclasses.replace(tiny.SHAPE, multipliers=(1, 2), num_blocks=1)
  model = autoencoder.Autoencoder(shape, module)
  pixels = jnp.zeros((1, 4, 4, 3))
  shapes = jax.eval_shape(model.init, jax.random.key(0), pixels)["params"]
  random = np.random.RandomState(0)
  params = jax.tree.map(
    lambda x: random.randn(*x.shape).astype(np.float32), shapes
  )
  return params, taming_tensors.export(params)


def test_gumbel_quantizer_survives_the_round_trip():
  params, tensors = _tiny_tensors(quantizer.Gumbel(8, 4))
  assert tensors["quantize.proj.weight"].shape == (8, 4, 1, 1)
  stage = taming.from_shapes(tensors)
  assert isinstance(stage.quantizer, quantizer.Gumbel)
  found, _ = taming_tensors.variables(tensors, stage)
  jax.tree.map(np.testing.assert_array_equal, found["generator"], dict(params))


def test_codes_in_use_replace_the_vocabulary():
  params, tensors = _tiny_tensors(quantizer.Nearest(8, 4))
  tensors["quantize.used"] = np.array([1, 5, 6])
  stage = taming.from_shapes(tensors)
  assert stage.quantizer.num_codes == 3
  found, _ = taming_tensors.variables(tensors, stage)
  np.testing.assert_array_equal(
    found["generator"]["quantizer"]["codebook"],
    params["quantizer"]["codebook"][[1, 5, 6]],
  )


def test_averaged_codebook_keeps_its_counts():
  _, tensors = _tiny_tensors(quantizer.Nearest(8, 4))
  counts, sums = np.arange(8.0), np.ones((8, 4))
  tensors["quantize.embedding.cluster_size"] = counts
  tensors["quantize.embedding.embed_avg"] = sums
  stage = taming.from_shapes(tensors)
  assert stage.quantizer.average
  _, state = taming_tensors.variables(tensors, stage)
  np.testing.assert_array_equal(state["quantizer"]["counts"], counts)
  np.testing.assert_array_equal(state["quantizer"]["sums"], sums)


def test_every_tensor_that_does_not_fit_is_named():
  _, tensors = _tiny_tensors(quantizer.Nearest(8, 4))
  stage = taming.from_shapes(tensors)
  del tensors["encoder.mid.attn_1.q.bias"]
  tensors["decoder.extra.weight"] = np.zeros(1)
  tensors["quant_conv.weight"] = np.zeros((4, 5, 1, 1))
  with pytest.raises(taming.TamingError) as caught:
    taming_tensors.variables(tensors, stage)
  message = str(caught.value)
  assert "missing: encoder.mid.attn_1.q.bias" in message
  assert "unexpected: decoder.extra.weight" in message
  assert "quant_conv.weight (4, 5, 1, 1) (needs (4, 4, 1, 1))" in message
  with pytest.raises(taming.TamingError, match=r"no first stage: .*conv_in"):
    taming.from_shapes({"head.weight": np.zeros(1)})


def test_losses_masks_and_counters_are_left_out():
  _, tensors = _tiny_tensors(quantizer.Nearest(8, 4))
  stage = taming.from_shapes(tensors)
  tensors["loss.perceptual_loss.lin0.model.1.weight"] = np.zeros(1)
  tensors["model_ema.decay"] = tensors["colorize"] = np.zeros(1)
  params, _ = taming_tensors.variables(tensors, stage)
  assert set(params) == {"generator"}


@pytest.mark.parametrize(
  "change, message",
  [
    ({"target": "some.Thing"}, "no first stage: known are VQModel"),
    ({"ddconfig": {"double_z": True}}, "ddconfig.double_z True: only False"),
    ({"ddconfig": {"out_ch": 4}}, "out_ch 4 must equal in_channels 3"),
    ({"n_embed": None}, "the configuration has no 'n_embed'"),
  ],
)
def test_configurations_that_we_cannot_build_are_refused(change, message):
  path = shared.shared_dir("golden", "taming", "vq_small.yaml")
  config = taming.read_config(path)
  params = config["params"]
  config["target"] = change.pop("target", config["target"])
  params["ddconfig"] |= change.pop("ddconfig", {})
  for name in change:
    del params[name]
  with pytest.raises(taming.TamingError, match=message):
    taming.from_config(config, {})


def test_files_that_are_no_model_are_one_clear_error(tmp_path):
  path = tmp_path / "model.yaml"
  path.write_text("a: [1")
  with pytest.raises(taming.TamingError, match=r"is no readable yaml"):
    taming.read_config(path)
  path.write_text("data: 1")
  with pytest.raises(taming.TamingError, match='has no entry "model"'):
    taming.read_config(path)
  path.write_text("!!python/object/apply:os.system ['false']")
  with pytest.raises(taming.TamingError, match=r"is no readable yaml"):
    taming.read_config(path)


def test_imported_discriminator_has_the_size_of_the_file():
  _, _, stage = _reference()
  assert stage.critic == discriminator.Discriminator(16, 3)
