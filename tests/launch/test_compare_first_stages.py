"""The comparison of first stages: what differs, and all of it, small."""

import math

import numpy as np
import pytest
from PIL import Image

from launch import (
  compare_first_stages,
  curves,
  evaluate,
  flags,
  plans,
  scores,
  train,
  variants,
)
from tests.evaluation import tiny_network
from tests.launch import tiny_stage
from training import options


@pytest.fixture(autouse=True)
def network(monkeypatch):
  make = lambda source, mode: tiny_network.make(source, mode)
  monkeypatch.setattr(scores, "open_network", make)


@pytest.fixture
def command(tmp_path):
  """The command line of a comparison that takes seconds."""
  images = tiny_stage.write_smooth(tmp_path / "images.npz")
  fields = {**tiny_stage.FIELDS, "data.dir": images}
  return [
    "--config=configs/vqgan_scenes.py:tiny",
    *(f"--config.{name}={value}" for name, value in fields.items()),
    f"--workdir={tmp_path / 'all'}",
    "--num_steps=6",
    "--every=3",
    "--num_images=8",
  ]


def _made(name="configs/vqgan_scenes.py"):
  config = flags.load(name)
  names = compare_first_stages.VARIANTS
  return {x: compare_first_stages.variant(config, x) for x in names}


def _differ(one, other):
  """The fields in which two configs differ, with the values of both."""
  left, right = (dict(flags.flatten(x)) for x in (one, other))
  return {x: (left[x], right[x]) for x in left if left[x] != right[x]}


def test_comparison_trains_scores_and_draws(command, tmp_path, capsys):
  command += ["--variants=vqvae,vqgan,alternating,average"]
  assert compare_first_stages.main(command) == 0
  printed = capsys.readouterr().out
  folder = tmp_path / "all"
  assert printed.startswith((folder / "tables.txt").read_text())
  # Moving averages are the config's own quantizer: a run less.
  names = sorted(x.name for x in folder.iterdir() if x.is_dir())
  assert names == ["alternating-0", "vqgan-0", "vqvae-0"]
  assert "average is the same run as vqvae" in printed
  assert "vqgan, alternating: the discriminator learns from step 4" in printed
  assert "quantizer.beta: " in printed and "vqvae 0.01" in printed
  assert "no FID" in printed
  tables = printed.rpartition("\n\n")[0].splitlines()
  rows = {x.split()[0]: x.split()[1:] for x in tables if x}
  assert rows["average"] == rows["vqvae"] != rows["vqgan"]
  # Timings aside.
  assert rows["alternating"][:-1] not in (
    rows["vqvae"][:-1],
    rows["vqgan"][:-1],
  )
  job = evaluate.open_job(folder / "vqgan-0")
  assert job.step == 6
  found = compare_first_stages.read(folder / "vqgan-0").scores
  assert found["psnr"].steps.tolist() == [3, 6]
  distance = "unofficial_rfrechet_adm_8"
  assert {"ssim", "edges", "codes_used", distance} <= set(found)
  assert rows["vqgan"][0] == f"{found['psnr'].values[-1]:.2f}"
  assert Image.open(folder / "curves.png").width > 600
  sheet = np.asarray(Image.open(folder / "reconstructions.png"))
  with np.load(tmp_path / "images.npz") as held:
    last = held["validation_images"][-1].repeat(6, 0).repeat(6, 1)
  np.testing.assert_array_equal(sheet[:96, -96:], last)
  assert sheet.shape[0] == 4 * 96 + 3 * 2
  log = (folder / "vqgan-0" / "log.txt").read_text()
  assert compare_first_stages.main(command) == 0
  assert capsys.readouterr().out == printed
  again = (folder / "vqgan-0" / "log.txt").read_text()[len(log) :]
  assert "resuming at step 6" in again
  assert compare_first_stages.main([*command, "--variants=average"]) == 0
  assert "average is the same run as vqvae" in capsys.readouterr().out
  assert len(np.asarray(Image.open(folder / "reconstructions.png"))) == 194
  assert compare_first_stages.main([*command, "--num_images=4"]) == 1
  error = capsys.readouterr().err
  assert "scored with eval.scores.num 8, not 4" in error
  assert error.count("\n") == 1


def test_what_stands_alone_is_shown_once(tmp_path):
  (tmp_path / "metrics.jsonl").write_text('{"step": 1, "perf/step_s": 0.25}\n')

  def lines(*names):
    run = lambda *psnr: compare_first_stages.Trained(
      tmp_path, {"psnr": curves.Curve(np.arange(2), np.float64(psnr))}
    )
    return compare_first_stages.tables(
      {name: [run(1, 20), run(2, 22)] for name in names}
    )

  head, columns, row = lines("nearest")
  assert head == "Quantizers" and "codes used" not in columns
  assert row.split() == [
    "nearest",
    "21.00",
    "(20.00-22.00)",
    "250",
    "(250-250)",
  ]
  both = lines("nearest", "legacy")
  assert both[:4] == [head, columns, row, ""] and both[4].startswith("Beta")
  assert [x.split()[0] for x in both[6:]] == ["nearest", "legacy"]


@pytest.mark.slow
def test_every_variant_trains(tmp_path, capsys):
  command = ["--tiny", "--num_steps=6", f"--workdir={tmp_path}", "--seeds=2"]
  assert compare_first_stages.main([*command, "--num_images=8"]) == 0
  printed = capsys.readouterr().out
  rows = {x.split()[0]: x for x in printed.splitlines() if x}
  assert set(compare_first_stages.VARIANTS) <= set(rows)
  for title in compare_first_stages.GROUPS:
    assert title in printed


def test_a_stopped_comparison_says_that_it_goes_on(
  command, tmp_path, monkeypatch, capsys
):
  begun = []

  def stopped(config, folder, **_):
    begun.append(folder.name)
    return options.Finished(None, 1, "SIGTERM", {})

  monkeypatch.setattr(train, "train", stopped)
  code = compare_first_stages.main([*command, "--variants=nearest,unit"])
  assert code == train.EXIT_RESUMABLE and begun == ["nearest-0"]
  assert "the same command goes on" in capsys.readouterr().out
  assert not (tmp_path / "all" / "tables.txt").exists()


def test_legacy_differs_in_the_weights_of_a_gradient_alone():
  made = _made()
  changes = {"quantizer.legacy": (False, True)}
  assert _differ(made["nearest"], made["legacy"]) == changes
  # Where both weights are learned by gradients.
  assert made["legacy"].quantizer.name == "nearest"
  assert made["legacy"].quantizer.beta == 0.25


@pytest.mark.parametrize("ours", [True, False])
def test_alternating_is_vqgan_in_the_order_of_the_authors(ours):
  config = flags.load("configs/vqgan_scenes.py")
  config = variants.changed(config, {"adversary.same_forward": ours})
  names = compare_first_stages.VARIANTS
  made = {x: compare_first_stages.variant(config, x) for x in names}
  changes = {"adversary.same_forward": (True, False)} if ours else {}
  assert _differ(made["vqgan"], made["alternating"]) == changes
  same = "alternating" if ours else "vqgan"
  assert compare_first_stages.twin(made, "alternating") == same
  plans.make(made["alternating"])


def test_vqvae_is_vqgan_without_what_looks_at_pictures():
  made = _made("configs/vqgan_folder.py:64")
  assert _differ(made["vqgan"], made["vqvae"]) == {
    "adversary.weight": (0.8, 0.0),
    "loss.perceptual": (1.0, 0.0),
  }


@pytest.mark.parametrize(
  "name", ["configs/vqgan_scenes.py", "configs/vqgan_folder.py:64"]
)
def test_quantizers_differ_in_nothing_else(name):
  made = _made(name)
  for quantizer in compare_first_stages.GROUPS["Quantizers"]:
    assert made[quantizer].quantizer.name == quantizer
    changed = _differ(made["vqvae"], made[quantizer])
    assert {x.split(".")[0] for x in changed} <= {"quantizer"}
    plans.make(made[quantizer])
  own = flags.load(name).quantizer.name
  assert compare_first_stages.twin(made, own) == "vqvae"
  assert compare_first_stages.twin(made, "unit") == "unit"
  assert made["unit"].quantizer.width == 8
  assert made["gumbel"].quantizer.temperature.steps == 0


@pytest.mark.parametrize("num", [64, 256, 1024, 16_384])
def test_finite_codes_are_about_as_many(num):
  config = flags.load("configs/vqgan_scenes.py")
  made = variants.changed(config, {"quantizer.num_codes": num})
  finite = compare_first_stages.variant(made, "finite").quantizer
  codes = math.prod(finite.levels)
  if num > 64:
    assert 0.9 < codes / num < 1.1
  own = variants.changed(made, {"quantizer.levels": (5, 5, 3)})
  found = compare_first_stages.levels(own.quantizer)
  assert (found == (5, 5, 3)) == (num == 64)


def test_a_shorter_run_has_the_shape_of_the_whole():
  whole = flags.load("configs/vqgan_scenes.py")
  made = compare_first_stages.shortened(whole, 230)
  assert made.train.num_steps == 230
  assert made.adversary.start == made.optimizer.decay_steps == 150
  assert made.adversary.warmup == 20 and made.optimizer.warmup_steps == 0


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["--variants=vqgan,finit"], "Did you mean finite?"),
    (["--seeds=0"], "--seeds 0 must be at least 1"),
    (["--num_images=1"], "--num_images 1 must be at least 2"),
    (["--tiny"], "--tiny is of the default config"),
    (["--config.seed=1"], "--config.seed is not read here: --seeds sets it"),
    (["--config.quantizer.decai=1"], "Did you mean --config.quantizer.decay?"),
    (["--config.adversary.weight=0"], "another vqvae"),
    (
      ["--config.adversary.weight=0", "--variants=alternating"],
      "alternating would be another vqvae",
    ),
    (["--num_steps=1"], "leave vqgan none of 1 steps"),
    (["--config.data.size=(15, 16)"], "must be multiples of the factor"),
    (["--config=configs/prior_scenes.py"], "is of task prior"),
  ],
)
def test_wrong_input_is_one_line(command, words, message, tmp_path, capsys):
  if words[0].startswith("--config="):
    command = command[-4:]
  assert compare_first_stages.main([*command, *words]) in (1, 2)
  error = capsys.readouterr().err
  assert message in error and error.count("\n") == 1
  assert not (tmp_path / "all").exists()
