"""Imported checkpoints are runs like any other; bad files one clear line."""

import jax
import numpy as np
import pytest

from launch import (
  import_checkpoint,
  imported,
  runs,
  tasks,
  train,
  trained,
)
from tests import shared
from tests.vqgan import tiny
from tests.weights import torch_writer
from training import sharding
from vqgan import taming, taming_prior, tokenizer
from weights import safetensors


def _files(name):
  path = shared.shared_dir("golden", "taming", f"{name}.npz")
  return np.load(path), path.with_suffix(".ckpt"), path.with_suffix(".yaml")


def _run(source, workdir, *options):
  return import_checkpoint.main(
    [f"--source={source}", f"--workdir={workdir}", *options]
  )


def _restored(workdir):
  run = runs.open_run(workdir)
  mesh = sharding.make_mesh({"data": 1}, jax.devices()[:1])
  return run, run.restore(mesh).state


def test_transformer_becomes_a_run_that_gives_the_reference_logits(tmp_path):
  golden, source, yaml = _files("n2n_class")
  workdir = tmp_path / "run"
  assert _run(source, workdir, f"--config={yaml}") == 0
  run, state = _restored(workdir)
  task, label = run.task, golden["class_label"].astype(np.int32)
  codes = golden["z_indices"].reshape(4, 16, 16)

  @tiny.jit
  def evaluate(state, codes):
    batch = {"codes": codes, "label": label, "mask": np.ones(4, bool)}
    rows = task.eval_step(state, batch, jax.random.key(0))
    return rows, task.reconstruct(state, batch)

  rows, images = evaluate(state, codes)
  nats = np.asarray(rows["bits_codes"]).mean() * np.log(2) / 256
  np.testing.assert_allclose(nats, golden["loss"], rtol=1e-5)
  expected = np.clip(golden["img_from_z"].transpose(0, 2, 3, 1), -1, 1)
  np.testing.assert_allclose(images, (expected + 1) * 127.5, atol=0.51)
  assert run.config.model.num_classes == 10
  assert run.config.tokenizer.weights == str(workdir / "tokenizer")
  assert trained.read(str(workdir / "tokenizer"))[0].task == "vqgan"


def test_first_stage_becomes_a_run_and_safetensors_are_read(tmp_path):
  golden, source, _ = _files("vq_small")
  tensors = taming.read(source)
  copy = tmp_path / "stage.safetensors"
  safetensors.save(copy, {name: np.asarray(x) for name, x in tensors.items()})
  workdir = tmp_path / "run"
  options = ["--resolution=64", "--config.data.source=folder"]
  assert _run(copy, workdir, *options) == 0
  run, state = _restored(workdir)
  assert run.config.data.source == "folder" and run.config.quantizer.legacy
  pixels = golden["x_nchw"].transpose(0, 2, 3, 1)[:1]
  image = np.round((pixels + 1) * 127.5).astype(np.uint8)
  coder = tokenizer.VQGAN(run.task)
  params = state.sampling_params["generator"]
  codes = tiny.jit(coder.encode)(params, image)
  same = np.mean(np.asarray(codes) == golden["indices"][:1])
  assert same > 0.95  # the reference's pixels are no whole numbers
  stepped = jax.eval_shape(
    run.task.train_step,
    jax.eval_shape(run.task.init, jax.random.key(0), run.measured),
    run.task.batch_spec(2),
    jax.random.key(0),
  )
  assert stepped[0].params.keys() == {"generator", "discriminator"}


@pytest.mark.parametrize(
  ("loss", "step", "expected"),
  [
    ({"disc_start": 700}, 500, (1.0, 200)),
    (
      {"disc_start": 700, "disc_weight": 0.6, "disc_factor": 0.5},
      800,
      (0.3, 0),
    ),
    ({"disc_start": 700, "disc_weight": 0.75}, None, (0.75, 0)),
    (None, 500, (0.8, 0)),
  ],
)
def test_a_discriminator_goes_on_as_the_authors_did(
  loss, step, expected, tmp_path
):
  _, source, yaml = _files("vq_small")
  tensors = {
    name: torch_writer.tensor(np.asarray(x))
    for name, x in taming.read(source).items()
  }
  value = {"state_dict": tensors}
  value |= {} if step is None else {"global_step": step}
  path = tmp_path / "last.ckpt"
  path.write_bytes(torch_writer.zip_bytes(value))
  config = taming.read_config(yaml)
  if loss is None:
    del config["params"]["lossconfig"]
  else:
    config["params"]["lossconfig"]["params"] = loss
  tensors, steps = import_checkpoint.read(path)
  found = import_checkpoint.first_stage(tensors, config, 64, steps)
  options = found.config.adversary
  assert (options.weight, options.start) == pytest.approx(expected)
  assert not options.same_forward and not found.config.data.flip
  assert (options.channels, options.num_layers) == (16, 3)


@pytest.mark.parametrize(
  ("key", "stage_config", "length"),
  [
    ("objects_bbox", {"target": "x.DummyCondStage"}, 92),
    ("objects_center_points", {"target": "x.DummyCondStage"}, 62),
    ("stickman", "__is_first_stage__", 256),
  ],
)
def test_what_a_yaml_leaves_open_of_a_condition_is_filled_in(
  key, stage_config, length
):
  _, source, yaml = _files("n2n_class")
  config = taming.read_config(yaml)
  changes = {"cond_stage_key": key, "cond_stage_config": stage_config}
  config["params"] |= changes
  stage = taming_prior.from_config(config, taming.read(source))
  first = imported.first_stage(stage.first, depth=False, perceptual=False)
  own = first if stage.condition is not None else None
  made = imported.second_stage(stage, first, own)
  adapter = tasks.get("prior")
  condition = adapter.make_task(made, adapter.assumed(made)).condition
  spec = condition.spec(2)
  rows = {name: np.zeros(x.shape, x.dtype) for name, x in spec.items()}
  if own is not None:
    assert rows["keypoints"].shape[2:] == (18, 3)
    assert condition.length == length
    return
  rows["boxes"][:, 0, 2:] = rows["crop"][:, 2:] = 1
  rows["box_labels"][:] = 182  # the last of COCO-Stuff
  tokens = condition.tokens(None, rows, None)
  assert tokens.shape == (2, length) and tokens[0, 0] == 182
  assert np.asarray(condition.pictures(None, tokens)).any()


@pytest.mark.slow
def test_imported_run_goes_on_training(tmp_path):
  _, source, yaml = _files("n2n_class")
  workdir, data = tmp_path / "run", tmp_path / "data.npz"
  assert _run(source, workdir, f"--config={yaml}") == 0
  random = np.random.RandomState(0)
  images = random.randint(0, 256, (4, 64, 64, 3)).astype(np.uint8)
  np.savez(data, train_images=images, train_labels=np.arange(4))
  fields = {
    "data.source": "arrays",
    "data.dir": data,
    "mesh.data": -1,
    "mesh.fsdp": 1,
    "train.num_steps": 1,
    "train.batch_size": 8,
    "train.remat": False,
    "eval.every": 0,
    "sample.every": 0,
  }
  options = [f"--config.{name}={value}" for name, value in fields.items()]
  options += [f"--config={workdir}/config.json", f"--workdir={workdir}"]
  options += ["--accept_changes", "--no_tensorboard"]
  assert train.main(options) == 0
  _, state = _restored(workdir)
  assert state.step == 1


def test_hostile_pickle_is_inert_and_reported(tmp_path, capsys):
  marker = tmp_path / "executed"
  path = tmp_path / "hostile.ckpt"
  command = f"touch {marker}".encode()
  text = b"X" + len(command).to_bytes(4, "little") + command
  value = {
    "state_dict": {"a.weight": torch_writer.tensor(np.ones(2, np.float32))},
    "callbacks": torch_writer.Raw(b"cos\nsystem\n" + text + b"\x85R"),
  }
  path.write_bytes(torch_writer.zip_bytes(value))
  assert _run(path, tmp_path / "run") == 1
  out, err = capsys.readouterr()
  assert "os.system" in out and "none was executed" in out
  assert len(err.splitlines()) == 1
  assert not marker.exists() and not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["truncated", "text", "missing"])
def test_damaged_files_are_one_line(kind, tmp_path, capsys):
  _, source, _ = _files("vq_small")
  path = tmp_path / "bad.ckpt"
  if kind == "truncated":
    path.write_bytes(source.read_bytes()[:100_000])
  elif kind == "text":
    path.write_text("version https://git-lfs.github.com/spec/v1")
  assert _run(path, tmp_path / "run") == 1
  err = capsys.readouterr().err
  assert len(err.splitlines()) == 1 and "bad.ckpt" in err
  assert not (tmp_path / "run").exists()


def test_yaml_of_another_checkpoint_lists_what_does_not_fit(tmp_path, capsys):
  _, source, yaml = _files("vq_small")
  text = yaml.read_text().replace("- 2\n      num", "- 4\n      num")
  other = tmp_path / "other.yaml"
  other.write_text(text)
  assert _run(source, tmp_path / "run", f"--config={other}") == 1
  err = capsys.readouterr().err
  assert "missing" in err and "mis-shaped" in err
  assert not (tmp_path / "run").exists()


def test_directory_with_files_is_left_alone(tmp_path, capsys):
  _, source, yaml = _files("n2n_class")
  (tmp_path / "mine").write_text("kept")
  assert _run(source, tmp_path, f"--config={yaml}") == 1
  assert "is not empty" in capsys.readouterr().err
  assert (tmp_path / "mine").read_text() == "kept"
