"""The README's path from a folder of pictures to samples, as it is written.

Every command of the two sections is run with its models and counts shrunk, in
the README's order; one that this test does not know fails it.
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


def commands() -> list[str]:
  """Return the commands of the sections, one line each."""
  text = (shared.ROOT / "README.md").read_text("utf-8")
  found = []
  for title in _SECTIONS:
    section = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
    assert section, f"README has no section {title}"
    found += re.findall(r"^    python -m (launch\..*)$", section, re.MULTILINE)
  return [x for x in found if not any(word in x for word in _ELSEWHERE)]


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


@pytest.mark.slow
def test_commands_run_in_their_order(folder):
  ran = []
  for command in commands():
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
  text = (shared.ROOT / "README.md").read_text("utf-8")
  named = set(re.findall(r"configs/(\w+\.py)", text))
  assert len(named) > 5
  assert {f"configs/{name}" for name in named} <= set(flags.shipped())
