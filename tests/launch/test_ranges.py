"""What a config alone shows to be wrong ends a run before it begins."""

import json
import shutil

import pytest

from launch import flags, ranges, sample, train
from tests import shared
from tests.launch import toy

DCT = "configs/dct_scenes.py:tiny"
FIRST = "configs/vqgan_scenes.py:tiny"
PRIOR = "configs/prior_scenes.py:tiny"
SUNDAE = "configs/sundae_scenes.py:tiny"

FAULTS = [
  (DCT, "model.num_heads=0", "heads 0 must be at least 1"),
  (DCT, "model.stride=0", "stride 0 and kernel 2 must be at least 1"),
  (DCT, "model.kernel=0", "kernel 0 must be at least 1"),
  (DCT, "model.encoder=()", "encoder () must be a block or more"),
  (DCT, "model.value=1,0", "value (1, 0) must be a block or more"),
  (DCT, "model.dropout=2.0", "model.dropout 2.0 must be in [0, 1)"),
  (DCT, "model.dropout=nan", "model.dropout nan must be in [0, 1)"),
  (DCT, "model.class_drop=7", "model.class_drop 7.0 must be in [0, 1]"),
  (DCT, "train.accumulate=0", "train.accumulate 0 must be at least 1"),
  (DCT, "train.accumulate=3", "train.accumulate 3 must divide batch_size 8"),
  (DCT, "train.batch_size=0", "train.batch_size 0 must be at least 1"),
  (DCT, "train.num_steps=-5", "train.num_steps -5 must be at least 1"),
  (DCT, "train.keep=1", "train.keep 1 must be at least 2"),
  (
    DCT,
    "train.chunks_per_image=3",
    "train.batch_size 8 must be a multiple of 3 (3 rows per example x 1 "
    "processes): set --config.train.batch_size=24.",
  ),
  (DCT, "eval.batch_size=0", "eval.batch_size 0 must be at least 1"),
  (DCT, "optimizer.ema_decay=2", "optimizer.ema_decay 2.0 must be in [0, 1)"),
  (DCT, "optimizer.clip_norm=-1", "optimizer.clip_norm -1.0 must be at least"),
  (DCT, "optimizer.peak=nan", "optimizer.peak nan must be at least 0"),
  (DCT, "sample.guidance=2", "guidance 2.0 needs a model with classes"),
  (DCT, "sample.top_p=0", "top_p 0.0 must be in (0, 1]"),
  (FIRST, "train.accumulate=3", "train.accumulate 3 must divide batch_size 8"),
  (FIRST, "optimizer.ema_decay=2", "optimizer.ema_decay 2.0 must be in [0, 1)"),
  (FIRST, "quantizer.decay=5", "quantizer.decay 5.0 must be in [0, 1)"),
  (FIRST, "quantizer.beta=-1", "quantizer.beta -1.0 must be at least 0"),
  (FIRST, "loss.perceptual=-1", "loss.perceptual -1.0 must be at least 0"),
  (FIRST, "model.norm_groups=0", "model.norm_groups 0 must be at least 1"),
  (FIRST, "adversary.num_layers=0", "adversary.num_layers 0 must be at least"),
  (FIRST, "model.dropout=1", "model.dropout 1.0 must be in [0, 1)"),
  (PRIOR, "train.accumulate=3", "train.accumulate 3 must divide batch_size 8"),
  (PRIOR, "model.dropout=-1", "model.dropout -1.0 must be in [0, 1)"),
  (PRIOR, "sample.guidance=2", "guidance 2.0 needs a model with classes"),
  (SUNDAE, "train.num_steps=0", "train.num_steps 0 must be at least 1"),
  (SUNDAE, "model.class_drop=7", "model.class_drop 7.0 must be in [0, 1]"),
  (SUNDAE, "optimizer.ema_decay=1", "optimizer.ema_decay 1.0 must be in"),
  (SUNDAE, "model.layers=1,1", "2 counts of layers (1, 1) do not fit"),
  (SUNDAE, "model.layers=1,-1,1", "(1, -1, 1) must be at least 0"),
  (SUNDAE, "model.resampling=patches", 'resampling "patches": choose one of'),
  (SUNDAE, "model.head_width=6", "width 6 must be a multiple of 4"),
  (SUNDAE, "data.size=36,32", "grid 9x8 must be divisible by the factor 2x2"),
  (SUNDAE, "sample.proportion=2", "proportion (2.0, 0.7) must be in 0..1"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  return toy.write_data(tmp_path_factory.mktemp("data") / "data.npz")


@pytest.mark.parametrize("name, override, said", FAULTS)
def test_a_number_out_of_range_is_one_line_and_leaves_nothing(
  name, override, said, data, tmp_path, capsys
):
  command = [
    f"--config={name}",
    f"--config.{override}",
    "--config.data.source=arrays",
    f"--config.data.dir={data}",
    "--config.data.split=train",
    "--config.data.eval_split=validation",
  ]
  if name != DCT:  # without a null class, whatever the form's own
    command += ["--config.model.class_drop=0"] * ("guidance" in override)
  workdir = tmp_path / "run"
  for end in ("--dry_run", f"--workdir={workdir}"):
    assert train.main([*command, end]) == 1
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
  assert not workdir.exists()


def test_guidance_waits_for_the_classes_of_the_dataset(capsys):
  command = [
    f"--config={DCT}",
    "--config.model.num_classes=-1",
    "--config.model.class_drop=0.1",
    "--config.sample.guidance=2",
    "--dry_run",
  ]
  assert train.main(command) == 0
  assert "sample.guidance = 2.0" in capsys.readouterr().out


def test_numbers_that_nothing_reads_are_not_refused():
  config = flags.load(DCT, [("sample.every", "0"), ("sample.num", "0")])
  ranges.check(config)
  config = flags.load(DCT, [("sample.num", "0")])
  with pytest.raises(ValueError, match=r"sample\.num 0 must be at least 1"):
    ranges.check(config)


@pytest.mark.parametrize(
  "missing",
  ["task", "seed", "optimizer", "model.width", "sample", "data.num_measured"],
)
def test_a_config_that_lacks_a_field_is_one_line(missing, tmp_path, capsys):
  found = flags.load(DCT).to_dict()
  *parents, last = missing.split(".")
  section = found
  for parent in parents:
    section = section[parent]
  del section[last]
  path = tmp_path / "config.json"
  path.write_text(json.dumps(found))
  workdir = tmp_path / "run"
  for end in ("--dry_run", f"--workdir={workdir}"):
    assert train.main([f"--config={path}", end]) == 1
    error = capsys.readouterr().err
    assert last in error and len(error.splitlines()) == 1
  assert not workdir.exists()


@pytest.mark.parametrize(
  "description, said",
  [
    ({}, "lacks config and step"),
    ([], "holds no object"),
    ({"step": 1}, "lacks config"),
    ({"config": {"task": "dctransformer"}}, "lacks step"),
    ({"config": {}, "step": None}, "step None must be a whole number"),
    ({"config": 3, "step": 3}, "a config is an object, not 3"),
    ({"config": {}, "step": 3}, "lacks 'task': there it has nothing"),
    ({"config": {"task": "dctransformer"}, "step": 3}, "lacks 'model'"),
  ],
)
def test_weights_without_their_description_are_one_line(
  description, said, tmp_path, capsys
):
  shipped = shared.ROOT / "weights" / "trained" / "dct_scenes.safetensors"
  shutil.copy(shipped, tmp_path)
  (tmp_path / "dct_scenes.json").write_text(json.dumps(description))
  command = [f"--weights={tmp_path / 'dct_scenes'}", f"--out={tmp_path / 'o'}"]
  assert sample.main(command) == 1
  error = capsys.readouterr().err
  assert said in error and len(error.splitlines()) == 1
