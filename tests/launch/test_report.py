import json

import numpy as np
import pytest
from PIL import Image

from launch import curves, flags, report


def _run(path, values, step=10):
  path.mkdir(parents=True)
  lines = [
    {"step": step * (i + 1), "train/loss": x, "perf/step_s": float(i)}
    for i, x in enumerate(values)
  ]
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (path / "metrics.jsonl").write_text(text)
  return path


def _decay(count=40, scale=1.0, seed=0):
  noise = 1 + 0.01 * np.random.default_rng(seed).standard_normal(count)
  return (scale * (1 + 3 * np.exp(-np.arange(count) / 8)) * noise).tolist()


def test_a_like_run_is_inside_and_another_outside(tmp_path, capsys):
  reference = _run(tmp_path / "reference", _decay(seed=1))
  same = _run(tmp_path / "same", _decay(seed=2))
  worse = _run(tmp_path / "worse", _decay(seed=3, scale=1.3))
  compare = f"--compare={reference}"
  assert report.main([f"--workdir={same}", compare]) == 0
  out = capsys.readouterr().out
  assert "train/loss  inside" in out and "perf/" not in out
  assert report.main([f"--workdir={worse}", compare]) == 1
  assert "OUTSIDE" in capsys.readouterr().out
  wide = [compare, "--tolerance=0.5"]
  assert report.main([f"--workdir={worse}", *wide]) == 0


def test_an_unfinished_run_is_compared_as_far_as_it_is(tmp_path):
  reference = curves.read(_run(tmp_path / "a", _decay()))
  half = curves.read(_run(tmp_path / "b", _decay()[:10]))
  (verdict,) = curves.compare(half, reference, 0.05)
  assert verdict.inside
  assert verdict.reference == pytest.approx(verdict.last, rel=0.1)


def test_a_metrics_file_is_a_reference_too(tmp_path):
  run = _run(tmp_path / "a", _decay())
  assert curves.read(run).keys() == curves.read(run / "metrics.jsonl").keys()


@pytest.mark.parametrize("name", ["sundae_scenes", "vqgan_scenes"])
def test_curves_that_ship_tell_a_like_run_from_another(name, tmp_path):
  path = curves.find(name)
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  metrics = tmp_path / "metrics.jsonl"
  command = [f"--workdir={tmp_path}", f"--compare={name}", "--names=train/loss"]
  noise = np.random.default_rng(0)
  for factor, status in ((1.0, 0), (1.5, 1)):
    scaled = [dict(line) for line in lines]
    for line in scaled:
      if "train/loss" in line:
        line["train/loss"] *= factor * (1 + 0.02 * noise.standard_normal())
    metrics.write_text("".join(json.dumps(line) + "\n" for line in scaled))
    assert report.main(command) == status


def test_curves_that_ship_are_of_their_configs_as_they_are():
  assert {"sundae_scenes", "vqgan_scenes"} <= curves.shipped().keys()
  for name, path in curves.shipped().items():
    assert path.stat().st_size < 64_000
    found = curves.read(path)
    assert not any(x.startswith(curves.MACHINE) for x in found)
    train = flags.load(f"configs/{name}.py").train
    every = np.arange(train.log_every, train.num_steps + 1, train.log_every)
    np.testing.assert_array_equal(found["train/loss"].steps, every)


def test_what_has_few_points_is_compared_on_request_only(tmp_path):
  run = _run(tmp_path / "a", _decay())
  with (run / "metrics.jsonl").open("a") as file:
    file.write('{"step": 200, "eval/psnr": 30.0}\n')
  found = curves.read(run)
  of = lambda *names: [x.name for x in curves.compare(found, found, 0.1, names)]
  assert of() == ["train/loss"]
  assert of("eval/psnr", "perf/step_s") == ["eval/psnr", "perf/step_s"]


def test_a_folder_called_like_a_curve_that_ships_is_asked_about(
  tmp_path, monkeypatch, capsys
):
  _run(tmp_path / "sundae_scenes", _decay())
  monkeypatch.chdir(tmp_path)
  command = ["--workdir=sundae_scenes", "--names=train/loss"]
  assert report.main([*command, "--compare=sundae_scenes"]) == 1
  assert "--compare=./sundae_scenes for that one" in capsys.readouterr().err
  assert report.main([*command, "--compare=./sundae_scenes"]) == 0


def test_page_holds_everything(tmp_path, capsys):
  run = _run(tmp_path / "run", _decay())
  (run / "config.json").write_text('{"task": "toy <b>", "seed": 1}')
  (run / "env.json").write_text('{"versions": {"jax": "9.9.9"}}')
  status = {"state": "completed", "step": 400, "total": 400}
  status["seconds"] = {"compile": 25.0, "productive": 75.0}
  (run / "status.json").write_text(json.dumps(status))
  (run / "samples").mkdir()
  Image.new("RGB", (4, 4)).save(run / "samples" / "400.png")
  (run / "eval" / "400").mkdir(parents=True)
  own = {"step": 400, "likelihood": {"eval/bits_per_pixel": 0.315}}
  (run / "eval" / "400" / "eval.json").write_text(json.dumps(own))
  figure = {"name": "colours", "value": 0.75, "low": 0.8, "blind": 0.1}
  (run / "eval" / "400" / "demo.json").write_text(
    json.dumps({"figures": [figure]})
  )
  assert report.main([f"--workdir={run}"]) == 0
  out = capsys.readouterr().out
  assert "completed at step 400 of 400" in out and "productive 75%" in out
  page = (run / "report.html").read_text()
  assert page.count("data:image/png;base64") == 3
  for text in ("train/loss", "samples/400.png", "0.315", "9.9.9"):
    assert text in page
  for cell in ("colours", "&gt;= 0.8", "0.100", "MISSED"):
    assert f"<td>{cell}</td>" in page
  assert '<td class="number">0.750</td>' in page
  assert "<b>" not in page and "http" not in page


def test_scores_stand_beside_what_is_wanted_and_published(tmp_path):
  run = _run(tmp_path / "run", _decay())
  (run / "config.json").write_text(
    '{"task": "toy", "data": {"name": "lsun/tower"}}'
  )
  result = {
    "metric": "scores-50-adm-seed0",
    "comparable": False,
    "num_samples": 50,
    "size": [64, 48],
    "labels": "none",
    "sampling": {"temperature": 0.9, "top_k": 0},
    "notes": ["50 samples, not 50000"],
  }
  for step, fid in ((200, 31.5), (300, 28.25)):
    scores = {"fid_adm_50": fid, "recall_adm_50": 0.5, "kid_adm_50": "nan"}
    (run / "eval" / str(step)).mkdir(parents=True)
    (run / "eval" / str(step) / "scores-50-adm-seed0.json").write_text(
      json.dumps(result | {"scores": scores, "values": scores})
    )
  # Of a later step, and of another kind.
  (run / "eval" / "400").mkdir()
  (run / "eval" / "400" / "eval.json").write_text('{"likelihood": {"x": 1.0}}')
  page = report.write(run).read_text()
  for text in (
    '<td class="number">28.25</td><td>lower is better</td>',
    '<td class="number">0.5</td><td>higher is better</td>',
    '<td class="number">nan</td><td>lower is better</td>',
    "50 pictures, step 300: not comparable",
    "size: 64 x 48; labels: none; sampling: temperature 0.9, top_k 0",
    "<li>50 samples, not 50000</li>",
    "published for lsun/tower",
    '<th></th><th class="number">fid</th><th class="number">sfid</th>',
    '<td>ours, 64 px</td><td class="number">28.25*</td><td class="number">',
    '<td>DCTransformer, 384 px</td><td class="number">8.78</td>',
    "arXiv 2103.03841",
    "likelihood, step 400",
  ):
    assert text in page, text
  assert "31.5" not in page


def test_only_small_pictures_keep_sharp_pixels(tmp_path):
  run = _run(tmp_path / "run", _decay(1))
  (run / "config.json").write_text('{"task": "toy"}')
  (run / "samples").mkdir()
  for name, width in (("1-small", 300), ("1-wide", 1300)):
    Image.new("RGB", (width, 2)).save(run / "samples" / f"{name}.png")
  page = report.write(run).read_text()
  shown = {
    figure.split('alt="samples/')[1].split(".png")[0]: 'class="pixels"'
    in figure
    for figure in page.split("<figure>")[1:]
  }
  assert shown == {"1-small": True, "1-wide": False}


def test_mistakes_are_one_line(tmp_path, capsys):
  run = _run(tmp_path / "run", _decay())
  short = _run(tmp_path / "short", _decay(4))
  for arguments, said in (
    ([f"--workdir={tmp_path / 'nowhere'}"], "holds no run"),
    ([f"--workdir={run}", f"--compare={tmp_path}"], "no metrics in"),
    (
      [f"--workdir={run}", "--compare=sundae_scene"],
      "no run, file or curve 'sundae_scene'. Did you mean sundae_scenes?",
    ),
    ([f"--workdir={run}", f"--compare={short}"], "try --names"),
    (
      [f"--workdir={run}", f"--compare={run}", "--names=loss"],
      "choose among perf/step_s, train/loss",
    ),
  ):
    assert report.main(arguments) == 1
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
