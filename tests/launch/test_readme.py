"""What the README says to type: that it is there, and that it works.

Its quick start runs as it is written. Its path from a folder of pictures to
samples runs in its order, with models and counts shrunk. Every other command
is compared with the options that its program has.
"""

import importlib
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from launch import flags
from tests import shared

_SECTIONS = ("Your own pictures", "Codes: VQGAN, priors over it, SUNDAE")
_RUN = {
  "train.num_steps": "2",
  "train.batch_size": "8",
  "train.log_every": "1",
  "optimizer.warmup_steps": "1",
  "eval.every": "0",
  "sample.every": "0",
}
_SMALL = {
  "dct_folder": {
    **{f"model.{x}": "(1,)" for x in ("encoder", "channel", "position")},
    **{"model.value": "(1,)", "model.width": "32", "model.num_heads": "2"},
  },
  "vqgan_folder": {
    **{"data.size": "(32,32)", "model.channels": "8"},
    **{"loss.perceptual": "0.0", "adversary.weight": "0.0"},
  },
  "prior_folder": {
    **{"data.size": "(32,32)", "model.layers": "1"},
    **{"model.width": "32", "model.heads": "2"},
  },
  "sundae_folder": {
    **{"data.size": "(32,32)", "model.layers": "(1,1,1)"},
    **{"model.width": "64", "model.heads": "1"},
  },
}
_FEW = {"num_samples": "4", "batch": "4"}
# Left to other tests: demos, the embedded forms and the authors' files.
_ELSEWHERE = (
  "runs/demo-colorize",
  "_scenes.py",
  "runs/s ",
  "import_checkpoint",
)


def _text(name: str = "README.md") -> str:
  return (shared.ROOT / name).read_text("utf-8")


def blocks(title: str) -> list[str]:
  """Return the commands of a section's blocks, one line each."""
  section = _text().partition(f"## {title}\n")[2].partition("\n## ")[0]
  assert section, f"README has no section {title}"
  return re.findall(r"^    python -m (launch\..*)$", section, re.MULTILINE)


def every_command() -> list[str]:
  """Return all commands of the documents, in blocks and in sentences."""
  text = "\n".join(map(_text, ("README.md", "docs/scale.md"))) + "\n"
  text = text.replace("\\\n", " ")
  found = re.findall(r"python -m ((?:launch|benchmarks)\.[^`\n]*)", text)
  return sorted({" ".join(command.split()) for command in found})


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A working directory with what the README calls PICTURES and so on."""
  generator = np.random.default_rng(0)
  for i in range(24):
    path = tmp_path / "PICTURES" / "ab"[i % 2] / f"{i}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = generator.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    Image.fromarray(coarse).resize((80, 64)).save(path)
  for name in ("SMALL", "IMAGE"):
    Image.fromarray(coarse).resize((64, 64)).save(tmp_path / f"{name}.png")
  (tmp_path / "configs").symlink_to(shared.ROOT / "configs")
  monkeypatch.chdir(tmp_path)
  return tmp_path


def test_the_quick_start_draws_pictures(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for command in blocks("Two commands"):
    module, *arguments = shlex.split(command)
    assert importlib.import_module(module).main(arguments) == 0
  made = tmp_path / "runs"
  for out in ("pictures", "denoised"):
    with np.load(made / out / "samples.npz") as held:
      assert held["arr_0"].shape == (16, 64, 64, 3)
      # As many colours as the pictures it learned from, or close to it.
      assert held["arr_0"].reshape(16, -1, 3).std(axis=(0, 1)).min() > 20
  with np.load(made / "inpainted" / "samples.npz") as held:
    assert held["arr_0"].shape == (4, 64, 64, 3)
  for name in ("grid.png", "heat_maps.png", "progressive.png"):
    assert (made / "pictures" / name).is_file()
  assert (made / "denoised" / "denoising.gif").is_file()


@pytest.mark.parametrize("command", every_command())
def test_its_options_are_those_of_the_program(command, capsys):
  module, *arguments = shlex.split(command, comments=True)
  main = importlib.import_module(module).main
  given = [x.partition("=")[0] for x in arguments if x.startswith("--")]
  fields = [x for x in given if x.startswith("--config.")]
  # The options may depend on those that are given.
  options = [x for x in arguments if x.partition("=")[0] not in fields]
  with pytest.raises(SystemExit) as ended:
    main([*options, "--help"])
  assert ended.value.code == 0
  known = set(re.findall(r"--\w+", capsys.readouterr().out))
  assert set(given) - set(fields) <= known
  for option in options:
    name, _, value = option.partition("=")
    if name == "--config" and value.startswith("configs/"):
      config = dict(flags.flatten(flags.load(value)))
      assert {x.removeprefix("--config.") for x in fields} <= set(config)


def test_each_command_that_samples_has_its_own_folder():
  found: dict[str, set[str]] = {}
  for line in re.findall(r"^    python -m (launch\.sample .*)$", _text(), re.M):
    options = dict(x.split("=", 1) for x in shlex.split(line) if "=" in x)
    found.setdefault(options["--out"], set()).add(line)
  assert len(found) > 5
  # A folder with samples of one job refuses those of another.
  assert not {out: lines for out, lines in found.items() if len(lines) > 1}


def test_what_it_makes_can_be_made():
  made = set(re.findall(r"`?make ([a-z-]+)`", _text()))
  made |= set(re.findall(r"^    make ([a-z-]+)$", _text(), re.MULTILINE))
  assert {"demo", "test", "demo-vqgan"} <= made
  rules = re.findall(r"^([a-z-]+):", _text("Makefile"), re.MULTILINE)
  assert made <= set(rules)


@pytest.mark.slow
def test_commands_run_in_their_order(folder):
  ran = []
  found = [command for title in _SECTIONS for command in blocks(title)]
  for command in found:
    if any(word in command for word in _ELSEWHERE):
      continue
    module, *arguments = shlex.split(command)
    if module == "launch.train":
      name = re.search(r"configs/(\w+)\.py", command)[1]
      fields = {**_RUN, **_SMALL[name]}
      arguments += [f"--config.{key}={x}" for key, x in fields.items()]
    elif module == "launch.sample" and "--weights" not in command:
      arguments += [f"--{key}={x}" for key, x in _FEW.items()]
    assert importlib.import_module(module).main(arguments) == 0, command
    ran.append(module)
  assert {"launch.tokenize", "launch.evaluate", "launch.report"} <= set(ran)
  assert ran.count("launch.train") == 4 and ran.count("launch.sample") == 4
  for out in ("samples", "large", "completed", "drawn"):
    assert np.load(folder / out / "samples.npz")["arr_0"].shape[0] == 4
  assert (folder / "runs" / "mine" / "report.html").is_file()


def test_every_config_of_the_readme_is_there():
  named = set(re.findall(r"configs/(\w+\.py)", _text()))
  assert len(named) > 5
  assert {f"configs/{name}" for name in named} <= set(flags.shipped())
