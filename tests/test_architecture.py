"""The rules of the house, kept by reading the source of every package."""

import ast
import functools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
  "benchmarks",
  "configs",
  "data",
  "dctransformer",
  "evaluation",
  "launch",
  "layers",
  "sundae",
  "training",
  "vqgan",
  "weights",
)
BASE = {"layers", "weights"}
SHARED = {"data", "training", "evaluation"}
# What a package may import besides itself; a dotted name means that module.
ARROWS = {
  "layers": set(),
  "weights": set(),
  "data": BASE | {"training.sharding"},
  "training": BASE,
  "evaluation": BASE | {"training.lock", "training.sharding"},
  "dctransformer": BASE | SHARED,
  "vqgan": BASE | SHARED,
  "sundae": BASE | SHARED | {"vqgan.tokenizer"},
  "configs": set(),
  "launch": set(PACKAGES) - {"benchmarks"},
  "benchmarks": set(PACKAGES),
}
# The modules below data/ that have to work without TensorFlow.
DATA_WITHOUT_TF = ("order", "arrays", "source", "device")
TENSORFLOW = {"tensorflow", "tensorflow_datasets", "clu", "array_record"}
OPTIONAL = (*sorted(TENSORFLOW), "ml_collections")
# What benchmarks compare with, if it happens to be installed.
PEERS = {"torch", "torchvision"}
MAX_LINES = 400
VAGUE = {"utils", "util", "common", "helpers", "helper", "misc"}
# Import names that differ from the name of the distribution.
DISTRIBUTIONS = {
  "PIL": "pillow",
  "absl": "absl-py",
  "jaxlib": "jax",
  "orbax": "orbax-checkpoint",
  "tensorflow": "tensorflow-cpu",
  "yaml": "pyyaml",
}
# A command's module docstring speaks for its main.
SELF_EXPLAINED = {"main"}


def _files(*folders: str) -> list[Path]:
  return sorted(
    path for folder in folders for path in (ROOT / folder).rglob("*.py")
  )


def _module(path: Path) -> str:
  parts = path.relative_to(ROOT).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def _tree(path: Path) -> ast.Module:
  return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _is_module(name: str) -> bool:
  path = ROOT.joinpath(*name.split("."))
  return path.is_dir() or path.with_suffix(".py").is_file()


def _imports(path: Path) -> list[tuple[int, str]]:
  """Returns (line, dotted name) of every import, lazy ones included."""
  found = []
  for node in ast.walk(_tree(path)):
    if isinstance(node, ast.Import):
      found += [(node.lineno, alias.name) for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path}:{node.lineno}: a relative import"
      for alias in node.names:
        name = f"{node.module}.{alias.name}"
        found.append((node.lineno, name if _is_module(name) else node.module))
  return found


def _ours(name: str) -> bool:
  return name.split(".")[0] in PACKAGES


def _may_import_tensorflow(path: Path) -> bool:
  parts = path.relative_to(ROOT).parts
  if parts[0] == "benchmarks":
    return True  # of the input pipeline
  if parts[0] in ("launch", "configs"):
    return False
  if parts[0] == "data":
    return path.stem not in DATA_WITHOUT_TF
  return parts[-1] == "encode.py" or parts == ("training", "tensorboard.py")


def test_imports_follow_the_arrows():
  wrong = []
  for path in _files(*PACKAGES):
    package = path.relative_to(ROOT).parts[0]
    allowed = ARROWS[package] | {package}
    for line, name in _imports(path):
      if not _ours(name):
        continue
      prefixes = {
        ".".join(name.split(".")[: i + 1]) for i in range(name.count(".") + 1)
      }
      if not prefixes & allowed:
        wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
  assert not wrong, "\n".join(wrong)


def test_tensorflow_is_imported_only_where_allowed():
  wrong = [
    f"{path.relative_to(ROOT)}:{line} imports {name}"
    for path in _files(*PACKAGES)
    for line, name in _imports(path)
    if name.split(".")[0] in TENSORFLOW and not _may_import_tensorflow(path)
  ]
  assert not wrong, "\n".join(wrong)


def test_ml_collections_is_imported_only_on_top():
  wrong = [
    f"{path.relative_to(ROOT)}:{line}"
    for path in _files(*(set(PACKAGES) - {"configs", "launch", "benchmarks"}))
    for line, name in _imports(path)
    if name.split(".")[0] == "ml_collections"
  ]
  assert not wrong, "\n".join(wrong)


def test_configs_import_nothing_but_ml_collections_and_one_config():
  plain = {"configs", "ml_collections"} | set(sys.stdlib_module_names)
  for path in _files("configs"):
    names = [name for _, name in _imports(path)]
    others = [n for n in names if n.startswith("configs") and "._" not in n]
    foreign = [n for n in names if n.split(".")[0] not in plain]
    assert len(others) <= 1, f"{path.name} builds on {others}"
    assert not foreign, f"{path.name} imports {foreign}"


def test_first_party_imports_name_modules():
  wrong = []
  for path in _files(*PACKAGES):
    for node in ast.walk(_tree(path)):
      if not isinstance(node, ast.ImportFrom) or not _ours(node.module or ""):
        continue
      wrong += [
        f"{path.relative_to(ROOT)}:{node.lineno} imports the name {alias.name}"
        for alias in node.names
        if not _is_module(f"{node.module}.{alias.name}")
      ]
  assert not wrong, "\n".join(wrong)


_BLOCK = """
import importlib, sys
class Blocked:
  def find_spec(self, name, path=None, target=None):
    if name.split(".")[0] in {blocked!r}:
      raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Blocked())
for name in {modules!r}:
  importlib.import_module(name)
for name in {blocked!r}:
  assert name not in sys.modules, name
"""


def test_everything_else_imports_without_tensorflow():
  modules = [
    _module(path)
    for path in _files(*(set(PACKAGES) - {"data", "configs", "benchmarks"}))
    if path.stem != "encode"
    and _module(path) != "training.tensorboard"
    and not _module(path).startswith("launch")
  ]
  names = [f"data.{name}" for name in DATA_WITHOUT_TF]
  modules += [name for name in names if _is_module(name)]
  code = _BLOCK.format(blocked=OPTIONAL, modules=modules)
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr[-2000:]


def test_launch_imports_without_tensorflow():
  modules = [_module(path) for path in _files("launch", "configs")]
  code = _BLOCK.format(blocked=tuple(sorted(TENSORFLOW)), modules=modules)
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("folder", [*PACKAGES, "tests"])
def test_files_are_short(folder):
  long = {
    str(path.relative_to(ROOT)): count
    for path in _files(folder)
    if (count := len(path.read_text().splitlines())) > MAX_LINES
  }
  assert not long, f"more than {MAX_LINES} lines: {long}"


def test_no_file_has_a_vague_name():
  vague = [
    str(path.relative_to(ROOT))
    for path in _files(*PACKAGES, "tests")
    if VAGUE & set(path.relative_to(ROOT).with_suffix("").parts)
  ]
  assert not vague, vague


def test_public_names_have_docstrings():
  bare = []
  for path in _files(*PACKAGES):
    tree = _tree(path)
    if tree.body and not ast.get_docstring(tree):
      bare.append(f"{path.relative_to(ROOT)}: the module")
    for node in tree.body:
      if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        continue
      if not node.name.startswith("_") and not ast.get_docstring(node):
        bare.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
  assert not bare, "\n".join(bare)


def _declared(*extras: str) -> set[str]:
  project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
  lines = list(project["dependencies"])
  for extra in extras:
    lines += project["optional-dependencies"][extra]
  return {_normal(re.match(r"[\w.-]+", line)[0]) for line in lines}


def _normal(name: str) -> str:
  return re.sub(r"[-_.]+", "-", name).lower()


def _undeclared(folders, declared) -> list[str]:
  known = set(PACKAGES) | {"tests"} | set(sys.stdlib_module_names)
  missing = []
  for path in _files(*folders):
    for line, name in _imports(path):
      top = name.split(".")[0]
      if top in known:
        continue
      if _normal(DISTRIBUTIONS.get(top, top)) not in declared:
        missing.append(f"{path.relative_to(ROOT)}:{line} imports {top}")
  return missing


def test_every_import_is_a_declared_dependency():
  # The extra is asked for, with its name, where LSUN is prepared.
  missing = _undeclared(set(PACKAGES) - {"benchmarks"}, _declared("lsun"))
  missing += _undeclared(["tests"], _declared("dev"))
  missing += _undeclared(["benchmarks"], _declared("dev") | PEERS)
  assert not missing, "\n".join(missing)


def test_locks_pin_every_declared_dependency():
  for name, extras in (("", ()), ("-dev", ("dev",))):
    text = (ROOT / f"requirements{name}.txt").read_text()
    pinned = set(re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==", text, re.M))
    missing = _declared(*extras) - {_normal(pin) for pin in pinned}
    assert not missing, f"requirements{name}.txt lacks {missing}; try make lock"
    assert "://" not in text and "\n--" not in text, "the lock names a host"


def test_every_package_is_a_package():
  for folder in PACKAGES:
    for path in (ROOT / folder).rglob("*.py"):
      assert (path.parent / "__init__.py").is_file(), path.parent
