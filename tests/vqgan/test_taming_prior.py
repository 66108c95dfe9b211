"""The authors' transformers: equal logits, and errors that name everything."""

import copy
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers import logits as logits_lib
from tests import shared
from tests.vqgan import tiny
from vqgan import (
  decode,
  orders,
  taming,
  taming_prior,
  taming_prior_tensors,
  taming_tensors,
)


@functools.cache
def _reference():
  """The reference second stage: arrays, tensors, yaml and settings."""
  path = shared.shared_dir("golden", "taming", "n2n_class.npz")
  tensors = taming.read(path.with_suffix(".ckpt"))
  config = taming.read_config(path.with_suffix(".yaml"))
  stage = taming_prior.from_config(config, tensors)
  return np.load(path), tensors, config, stage


def test_reference_logits_and_loss_are_the_same():
  golden, tensors, _, stage = _reference()
  params = taming_prior_tensors.variables(tensors, stage)
  codes, label = golden["z_indices"], golden["c_indices"][:, 0]
  np.testing.assert_array_equal(label, golden["class_label"])
  logits = tiny.jit(stage.module().apply)(params, codes, None, label)
  np.testing.assert_allclose(logits, golden["logits"], atol=1e-4)
  loss = logits_lib.cross_entropy(logits, jnp.asarray(codes)).mean()
  np.testing.assert_allclose(loss, golden["loss"], rtol=1e-5)
  np.testing.assert_allclose(
    logits[:, :40], golden["fwd_past_logits40"], atol=1e-4
  )


def test_reference_greedy_continuation_is_the_same():
  golden, tensors, _, stage = _reference()
  params = taming_prior_tensors.variables(tensors, stage)
  keys = jax.random.split(jax.random.key(0), 4)
  drawn = tiny.jit(
    lambda keys, label: decode.sample(
      stage.module(), params, keys, 64, decode.Settings.create(0.0), label=label
    )
  )(keys, golden["c_indices"][:, 0])
  np.testing.assert_array_equal(drawn, golden["greedy64_nocache"])
  np.testing.assert_array_equal(drawn, golden["greedy64_past"])


def test_yaml_tells_the_reference():
  _, _, _, stage = _reference()
  assert (stage.kind, stage.num_classes, stage.num_codes) == ("class", 10, 256)
  assert (stage.layers, stage.width, stage.heads) == (3, 96, 4)
  assert (stage.length, stage.pkeep, stage.order) == (260, 1.0, "row")
  assert stage.first.shape.factor == 4
  np.testing.assert_allclose(stage.learning_rate(10), 4.5e-5)


def test_shapes_tell_all_but_heads_and_classes():
  _, tensors, _, stage = _reference()
  found = taming_prior.from_shapes(tensors, 4, 10, resolution=64)
  assert (
    dataclasses.replace(found, first=stage.first, base_learning_rate=4.5e-6)
    == stage
  )
  assert taming_prior.from_shapes(tensors).heads == 16


def test_export_gives_the_tensors_back():
  _, tensors, _, stage = _reference()
  params = taming_prior_tensors.variables(tensors, stage)
  exported = taming_prior_tensors.export(params)
  kept = {
    name: tensor
    for name, tensor in tensors.items()
    if name.startswith("transformer.") and not name.endswith("mask")
  }
  assert exported.keys() == kept.keys()
  for name, tensor in kept.items():
    np.testing.assert_array_equal(exported[name], tensor)


def test_all_names_that_do_not_fit_are_listed():
  _, tensors, _, stage = _reference()
  broken = dict(tensors)
  del broken["transformer.blocks.1.mlp.2.bias"]
  broken["transformer.ln_f.weight"] = np.zeros(95, np.float32)
  broken["transformer.extra"] = np.zeros(1, np.float32)
  with pytest.raises(taming.TamingError) as error:
    taming_prior_tensors.variables(broken, stage)
  message = str(error.value)
  assert "missing: transformer.blocks.1.mlp.2.bias" in message
  assert "unexpected: transformer.extra" in message
  assert "mis-shaped: transformer.ln_f.weight (95,) (needs (96,))" in message


def test_mask_must_be_that_of_the_settings():
  _, tensors, _, stage = _reference()
  other = dataclasses.replace(stage, n_unmasked=1 + 1)
  with pytest.raises(taming.TamingError, match="with n_unmasked 2"):
    taming_prior_tensors.variables(tensors, other)
  masks = {name: np.array(x) for name, x in tensors.items() if "mask" in name}
  masks["transformer.blocks.2.attn.mask"][..., :5, :5] = 1
  with pytest.raises(taming.TamingError, match=r"blocks\.2\.attn\.mask"):
    taming_prior_tensors.variables({**tensors, **masks}, stage)


def _with(config, **changes):
  return {**config, "params": {**config["params"], **changes}}


def _copied(tensors):
  """Add the first stage as the condition's, as the authors save it."""
  copy = {
    name.replace("first_stage_model", "cond_stage_model"): x
    for name, x in tensors.items()
    if name.startswith("first_stage_model")
  }
  return {**tensors, **copy}


def test_condition_that_is_the_first_stage_may_be_an_identical_copy():
  _, tensors, config, _ = _reference()
  config = _with(
    config, cond_stage_config="__is_first_stage__", cond_stage_key="LR_image"
  )
  both = _copied(tensors)
  stage = taming_prior.from_config(config, both)
  assert stage.kind == "lowres"
  assert stage.condition is stage.first
  assert stage.module().num_conditions == 256
  assert taming_prior_tensors.variables(both, stage)["params"]["head"]
  name = "cond_stage_model.quant_conv.bias"
  both[name] = both[name] + 1
  with pytest.raises(taming.TamingError, match=r"differs in: quant_conv\.bias"):
    taming_prior.from_config(config, both)


def test_condition_with_a_first_stage_of_its_own():
  _, tensors, config, _ = _reference()
  changes = {"cond_stage_config": config["params"]["first_stage_config"]}
  for key, kind in (("depth", "depth"), ("stickman", "keypoints")):
    changed = _with(config, cond_stage_key=key, **changes)
    stage = taming_prior.from_config(changed, _copied(tensors))
    assert stage.kind == kind
    assert stage.condition == stage.first


@pytest.mark.parametrize(
  ("target", "options", "key", "expected"),
  [
    ("SOSProvider", {"sos_token": 0}, "x", ("none", 0)),
    (
      "CoordStage",
      {"n_embed": 1024, "down_factor": 16},
      "coord",
      ("coordinates", 1025),
    ),
    ("DummyCondStage", {}, "objects_bbox", ("boxes", 256)),
    ("DummyCondStage", {}, "objects_center_points", ("points", 256)),
  ],
)
def test_condition_without_parameters(target, options, key, expected):
  _, tensors, config, _ = _reference()
  changed = _with(
    config,
    cond_stage_config={"target": f"taming.{target}", "params": options},
    cond_stage_key=key,
  )
  stage = taming_prior.from_config(changed, tensors)
  assert (stage.kind, stage.module().num_conditions) == expected


def test_rows_that_theirs_lacks_are_means_and_rows_of_no_code_are_left_out():
  golden, tensors, _, stage = _reference()
  more = dataclasses.replace(stage, num_classes=300)
  table = taming_prior_tensors.variables(tensors, more)["params"]["code_table"]
  theirs = tensors["transformer.tok_emb.weight"]
  assert table["embedding"].shape == (301, 96)
  np.testing.assert_allclose(table["embedding"][300], theirs.mean(0), atol=1e-6)
  small = dataclasses.replace(stage.first.quantizer, num_codes=200)
  fewer = dataclasses.replace(
    stage, first=dataclasses.replace(stage.first, quantizer=small)
  )
  params = taming_prior_tensors.variables(tensors, fewer)["params"]
  assert params["head"]["kernel"].shape == (96, 200)
  assert golden["logits"].shape[-1] == 256


def test_permuter_is_read_and_checked():
  _, tensors, config, _ = _reference()
  changed = _with(
    config, permuter_config={"target": "taming.permuter.ZCurve", "params": {}}
  )
  stage = taming_prior.from_config(changed, tensors)
  assert stage.order == "z_curve"
  index = "permuter.forward_shuffle_idx"
  right = {**tensors, index: orders.order("z_curve", 16, 16)}
  assert taming_prior_tensors.variables(right, stage)
  wrong = {**tensors, index: orders.order("row", 16, 16)}
  with pytest.raises(taming.TamingError, match="is not the order z_curve"):
    taming_prior_tensors.variables(wrong, stage)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"transformer_config": {}}, "the configuration has no 'params'"),
    ({"permuter_config": {"target": "x.Hilbert"}}, "permuter Hilbert"),
    (
      {"cond_stage_config": {"target": "x.Text", "params": {}}},
      'target "x.Text" is no first stage',
    ),
  ],
)
def test_unknown_settings_are_named(changes, message):
  _, tensors, config, _ = _reference()
  with pytest.raises(taming.TamingError, match=message):
    taming_prior.from_config(_with(config, **changes), tensors)


def test_other_classes_and_files_are_refused():
  _, tensors, config, _ = _reference()
  with pytest.raises(taming.TamingError, match="is no second stage"):
    taming_prior.from_config({**config, "target": "x.VQModel"}, tensors)
  with pytest.raises(taming.TamingError, match=r"no transformer\.tok_emb"):
    taming_prior.from_shapes(taming_prior.first_stage(tensors))


def test_prior_with_several_tables_is_not_exported():
  tree = {"condition_table": {"embedding": np.zeros((2, 3))}}
  with pytest.raises(taming.TamingError, match="condition_table/embedding"):
    taming_prior_tensors.export({"params": tree})


def test_smaller_condition_is_refused():
  _, tensors, config, _ = _reference()
  with pytest.raises(taming.TamingError, match="downsample_cond_size 64"):
    taming_prior.from_config(_with(config, downsample_cond_size=64), tensors)


def _leaves(tree, path=()):
  """Yield the path of every entry of a yaml."""
  if isinstance(tree, dict):
    for name in tree:
      yield (*path, name)
      yield from _leaves(tree[name], (*path, name))


def _changed(config, path, value):
  """Copy a yaml with another value at a path; None leaves it out."""
  config = copy.deepcopy(config)
  parent = functools.reduce(dict.__getitem__, path[:-1], config)
  if value is None:
    del parent[path[-1]]
  else:
    parent[path[-1]] = value
  return config


@pytest.mark.parametrize("value", [None, "text", [], {}, -1, 0, 1e30])
def test_malformed_yaml_is_one_typed_error(value):
  _, tensors, config, _ = _reference()
  refused = 0
  for path in _leaves(config):
    try:
      stage = taming_prior.from_config(_changed(config, path, value), tensors)
      taming_prior_tensors.variables(tensors, stage)
    except taming.TamingError:
      refused += 1
  assert refused > 10


_MALFORMED = (
  "transformer.tok_emb.weight",
  "transformer.pos_emb",
  "transformer.blocks.0.attn.mask",
  "transformer.blocks.1.mlp.0.weight",
  "first_stage_model.encoder.conv_in.weight",
  "first_stage_model.encoder.down.1.block.0.conv1.weight",
  "first_stage_model.encoder.conv_out.weight",
  "first_stage_model.quantize.embedding.weight",
)


@pytest.mark.parametrize("name", _MALFORMED)
def test_malformed_tensor_is_one_typed_error(name):
  _, tensors, _, _ = _reference()
  for other in (np.zeros(()), np.zeros((0, 3)), tensors[name][None]):
    broken = {**tensors, name: other.astype(np.float32)}
    with pytest.raises(taming.TamingError):
      stage = taming_prior.from_shapes(broken, 4, 10, resolution=64)
      taming_prior_tensors.variables(broken, stage)
      first = taming_prior.first_stage(broken)
      taming_tensors.variables(first, stage.first)
