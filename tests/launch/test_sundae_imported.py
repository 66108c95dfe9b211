"""SUNDAE on the codes of a first stage that its authors' code trained."""

import numpy as np

from launch import first_stages, flags, import_checkpoint, runs, sample, train
from tests import shared


def test_sundae_trains_and_samples_on_an_imported_first_stage(tmp_path):
  source = shared.shared_dir("golden", "taming", "vq_small.ckpt")
  stage, workdir = tmp_path / "stage", tmp_path / "run"
  command = [f"--source={source}", f"--workdir={stage}"]
  command += [f"--config={source.with_suffix('.yaml')}"]
  assert import_checkpoint.main(command) == 0
  rng = np.random.default_rng(0)
  pictures = rng.integers(0, 256, (12, 32, 32, 3), np.uint8)
  labels = np.arange(12) % 2
  data = tmp_path / "images.npz"
  np.savez(data, train_images=pictures, train_labels=labels)
  fields = {
    "data.source": "arrays",
    "data.dir": str(data),
    "data.split": "train",
    "data.eval_split": "train",
    "data.size": "(32, 32)",
    "model.num_classes": "2",
    "tokenizer.weights": str(stage),
    "train.num_steps": "2",
    "train.log_every": "1",
    "train.checkpoint_every": "2",
    "eval.every": "0",
    "sample.every": "0",
  }
  config = flags.load("configs/sundae_ffhq256.py:tiny", [*fields.items()])
  finished = train.train(config, workdir, write_tensorboard=False)
  assert finished.step == 2 and finished.reason == "completed"

  out = tmp_path / "out"
  command = [f"--workdir={workdir}", f"--out={out}", "--batch=2"]
  assert sample.main([*command, "--num_samples=2", "--steps=2"]) == 0
  drawn, task = sample.load(out), runs.open_run(workdir).task
  # 256 codes of 4 x 4 pixels, shown by the imported decoder.
  assert task.model.num_codes == 256 and drawn["tokens"].shape == (2, 8, 8)
  params = first_stages.load(str(stage)).params
  shown = task.tokenizer.decode(params, drawn["tokens"])
  np.testing.assert_allclose(drawn["image"], shown, atol=1)
