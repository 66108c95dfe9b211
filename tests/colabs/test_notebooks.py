"""The notebooks are clean, keep to our packages, and run from end to end."""

import ast
import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "colabs"
LIBRARIES = {"IPython", "jax", "matplotlib", "ml_collections", "numpy"}
# What an installation must leave as the runtime has it.
UNTOUCHED = ("jax", "numpy", "tensorflow")
# As on a machine without TensorFlow: it is not found, rather than broken.
_HIDE = """
import sys
class Hiding:
  def __init__(self, finder):
    self.finder = finder
  def __getattr__(self, name):
    return getattr(self.finder, name)
  def find_spec(self, name, path=None, target=None):
    if name.split(".")[0] in ("tensorflow", "tensorflow_datasets", "clu"):
      return None
    return self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
"""


@dataclasses.dataclass(frozen=True)
class Expected:
  """What a notebook has to do when it runs from end to end.

  Attributes:
    packages: of ours, that it shows.
    steps: of training, by TESSERA_NOTEBOOK_STEPS.
    pictures: at least so many are shown.
    says: a part of what it prints.
  """

  packages: frozenset[str]
  steps: int
  pictures: int
  says: str


# By the name of the file; warm-up of the tiny forms is 5 steps.
NOTEBOOKS = {
  "dctransformer": Expected(
    frozenset({"dctransformer", "launch"}), 8, 12, "completed at step 8"
  ),
  "evaluation": Expected(
    frozenset({"evaluation", "launch"}), 8, 2, "unofficial_frechet_clean_24"
  ),
  "sundae": Expected(
    frozenset({"sundae", "launch"}), 6, 7, "completed at step 6"
  ),
  "vqgan": Expected(
    frozenset({"vqgan", "launch"}), 6, 9, "512 examples by tokenizer"
  ),
}
each = pytest.mark.parametrize("name", NOTEBOOKS)


def _read(name):
  path = FOLDER / f"{name}.ipynb"
  return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def _sources(name):
  cells = _read(name).cells
  return [cell.source for cell in cells if cell.cell_type == "code"]


def _setup():
  return _sources("dctransformer")[0]


def test_every_notebook_is_tested():
  assert {path.stem for path in FOLDER.glob("*.ipynb")} == {*NOTEBOOKS}


@each
def test_setup_is_the_same_everywhere(name):
  assert _sources(name)[0] == _setup()


@each
def test_notebook_is_valid_and_has_no_outputs(name):
  notebook = _read(name)
  nbformat.validate(notebook)
  code = [cell for cell in notebook.cells if cell.cell_type == "code"]
  assert code
  for cell in code:
    assert cell.outputs == []
    assert cell.execution_count is None


@each
def test_cells_compile_and_import_only_ours_and_few_libraries(name):
  ours = {path.parent.name for path in ROOT.glob("*/__init__.py")}
  allowed = ours | LIBRARIES | set(sys.stdlib_module_names)
  found = set()
  for source in _sources(name):
    for node in ast.walk(ast.parse(source)):
      if isinstance(node, ast.Import):
        found |= {alias.name.split(".")[0] for alias in node.names}
      elif isinstance(node, ast.ImportFrom):
        found.add(node.module.split(".")[0])
  assert NOTEBOOKS[name].packages <= found
  assert found <= allowed, found - allowed


def test_setup_does_nothing_where_the_packages_import(monkeypatch):
  path = list(sys.path)
  monkeypatch.setattr(subprocess, "run", _refuse)
  exec(_setup(), {})
  assert sys.path == path


def test_setup_finds_the_checkout_above_the_notebook(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  monkeypatch.setattr(subprocess, "run", _refuse)
  others = [x for x in sys.path if Path(x).resolve() != ROOT]
  monkeypatch.setattr(sys, "path", others)
  monkeypatch.chdir(FOLDER)
  exec(_setup(), {})
  assert sys.path[0] == str(ROOT)


def test_setup_says_what_to_do_where_nothing_is_found(monkeypatch, tmp_path):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  monkeypatch.setattr(subprocess, "run", _refuse)
  monkeypatch.chdir(tmp_path)
  with pytest.raises(RuntimeError, match="fill in REPOSITORY"):
    exec(_setup(), {})


def test_installation_leaves_jax_and_numpy_alone(monkeypatch):
  commands = []
  namespace = {}
  exec(_setup(), namespace)
  monkeypatch.setattr(
    subprocess, "run", lambda command, check: commands.append(command)
  )
  namespace["install"](ROOT)
  assert len(commands) == 2
  for command in commands:
    assert "--no-deps" in command
    assert not [x for x in command if x.startswith(UNTOUCHED)]
  assert any(x.startswith("ml-collections") for x in commands[1])


@pytest.mark.slow
@each
def test_notebook_runs_without_tensorflow(name, monkeypatch):
  expected = NOTEBOOKS[name]
  monkeypatch.setenv("TESSERA_NOTEBOOK_STEPS", str(expected.steps))
  monkeypatch.setenv("XLA_FLAGS", "")  # one device
  monkeypatch.delenv("MPLBACKEND", raising=False)  # pictures in the notebook
  notebook = _read(name)
  notebook.cells.insert(0, nbformat.v4.new_code_cell(_HIDE))
  client = nbclient.NotebookClient(
    notebook,
    timeout=900,
    kernel_name="python3",
    resources={"metadata": {"path": str(FOLDER)}},
  )
  client.execute()
  outputs = [
    output
    for cell in notebook.cells
    if cell.cell_type == "code"
    for output in cell.outputs
  ]
  shown = [x for x in outputs if "image/png" in x.get("data", {})]
  assert len(shown) >= expected.pictures
  text = "".join(x.text for x in outputs if x.output_type == "stream")
  assert expected.says in text


def _refuse(*args, **kwargs):
  raise AssertionError(f"nothing may be started here: {args}")
