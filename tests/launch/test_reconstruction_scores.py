"""Which split, and how much of it, a run reconstructs for its scores."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from evaluation import report
from launch import evaluate
from tests.launch import scored_run, toy


@pytest.fixture
def workdir(tmp_path, monkeypatch):
  return scored_run.make(tmp_path, monkeypatch)


def test_any_split_is_reconstructed_into_a_file_of_its_own(
  workdir, monkeypatch, capsys
):
  def reconstruct(self, state, batch):
    return jnp.zeros((len(batch["grey"]), 8, 8, 3), jnp.uint8)

  monkeypatch.setattr(toy.Toy, "reconstruct", reconstruct, raising=False)
  (workdir / "tensorboard").mkdir()
  tags = []
  writer = types.SimpleNamespace(
    scalars=lambda step, values: tags.extend(values), close=lambda: None
  )
  monkeypatch.setattr("training.tensorboard.make", lambda _: writer)
  command = [f"--workdir={workdir}", "--metrics=reconstruction"]
  command += ["--inception=random:3"]
  for more in (
    [],
    ["--split=validation"],
    ["--split=train", "--watch"],
    ["--split=train", "--num_images=9"],
    ["--num_images=9"],
    ["--num_images=8"],
    ["--num_images=8", "--no_average"],
    ["--size=4"],
  ):
    assert evaluate.main([*command, *more]) == 0
  stem = "reconstruction-adm-random-3"
  found = {
    path.stem.removeprefix(stem): report.read(path)
    for path in (workdir / "eval" / "4").glob(f"{stem}*.json")
  }
  assert {name: x["num_samples"] for name, x in found.items()} == {
    "": 13,
    "-split-train": 40,
    "-split-train-images-9": 9,
    "-images-9": 9,
    "-images-8": 8,
    "-size4": 13,
  }
  assert found["-split-train"]["split"] == "train"
  assert found["-images-8"]["num_images"] == 8
  with np.load(workdir.parent / "data.npz") as data:
    images = data["train_images"].astype(float)
  for name, chosen in (
    ("-split-train", np.arange(40)),
    ("-split-train-images-9", np.arange(9) * 40 // 9),
  ):
    error = (images[chosen] ** 2).mean((1, 2, 3))
    expected = np.mean(10 * np.log10(255**2 / error))
    scored = found[name]["scores"]
    assert scored["psnr"] == pytest.approx(expected)
    assert f"unofficial_rfrechet_adm_{len(chosen)}" in scored
  # Each file has curves of its own.
  assert {tag for tag in tags if tag.endswith("/psnr")} == {
    "eval/psnr",
    "eval/train/psnr",
    "eval/train/images-9/psnr",
    "eval/images-9/psnr",
    "eval/images-8/psnr",
    "eval/images-8/raw/psnr",
    "eval/size4/psnr",
  }
  assert (workdir / "eval" / "2" / f"{stem}-split-train.json").is_file()
  capsys.readouterr()
  assert evaluate.main([*command, "--num_images=14"]) == 1
  assert "data.npz validation has 13; leave it" in capsys.readouterr().err
