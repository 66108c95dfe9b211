"""Command lines: options, a config file and overrides of its fields.

    --config=configs/dct_scenes.py:tiny --config.optimizer.peak=1e-3

A config is a Python file with `get_config(arg) -> ConfigDict`, looked for on
disk and then among the configs that ship, or the config.json of a run. A
misspelt option, config or field exits with code 2 and the nearest name.
"""

import argparse
import ast
import difflib
import importlib.util
import json
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import ml_collections

from launch import errors

BEST = "best"
STEP = f'of the checkpoint, or "{BEST}" by train.best; default: the newest'
_OVERRIDE = re.compile(r"--config\.([\w.]+)(?:=(.*))?$", re.DOTALL)
_TRUE = ("true", "1", "yes")
_FALSE = ("false", "0", "no")


class UsageError(errors.CommandError):
  """A misspelt or missing option, config or field."""

  def __init__(self, message: str, command: str = ""):
    super().__init__(message, command, errors.EXIT_USAGE)


class Parser(argparse.ArgumentParser):
  """An ArgumentParser that raises `UsageError`s and guesses what was meant.

  Args:
    doc: the module's docstring, shown by --help.
    module: the name of the command, such as `launch.train`.
    config: "required" or "optional" adds --config and its overrides.
  """

  def __init__(self, doc: str | None, module: str, config: str = ""):
    super().__init__(
      prog=f"python -m {module}",
      description=doc,
      formatter_class=argparse.RawDescriptionHelpFormatter,
      allow_abbrev=False,
    )
    self._config = config
    self.add_argument(
      errors.DEBUG_FLAG,
      action="store_true",
      help="show the traceback of an error",
    )
    if config:
      self.add_argument(
        "--config",
        required=config == "required",
        metavar="FILE.py[:ARG]",
        help="experiment; --config.SECTION.FIELD=VALUE overrides a field",
      )

  def error(self, message: str):
    """Raises instead of printing the usage and exiting."""
    raise UsageError(message, f"{self.prog} --help")

  def parse_arguments(self, argv: Sequence[str]) -> argparse.Namespace:
    """Parses `argv`; `config` becomes a locked ConfigDict (or None).

    Raises:
      UsageError: an unknown option, config or field, with the nearest name; a
        value that does not fit its field.
    """
    rest, overrides = list(argv), []
    if self._config:
      rest, overrides = split_overrides(argv)
    args, unknown = self.parse_known_args(rest)
    if unknown:
      self.error(self._unknown(unknown[0]))
    if self._config:
      if args.config is None and overrides:
        self.error(f"--config.{overrides[0][0]} needs --config=FILE.py")
      args.config_name = args.config
      if args.config is not None:
        args.config = load(args.config, overrides)
    return args

  def _unknown(self, word: str) -> str:
    flag = word.split("=")[0]
    known = [flag for action in self._actions for flag in action.option_strings]
    if not word.startswith("-"):
      return f"unexpected argument {word!r}"
    return f"unknown option {flag}{did_you_mean(flag, known)}"


def split_overrides(
  argv: Sequence[str],
) -> tuple[list[str], list[tuple[str, str]]]:
  """Takes the `--config.a.b=value` (or ` value`) out of a command line.

  Returns (the other words, [(dotted name, text of the value), ...]).
  """
  rest, overrides = [], []
  words = iter(argv)
  for word in words:
    match = _OVERRIDE.match(word)
    if not match:
      rest.append(word)
      continue
    name, value = match.groups()
    if value is None:
      value = next(words, None)
    if value is None:
      raise UsageError(f"--config.{name} needs a value: --config.{name}=VALUE")
    overrides.append((name, value))
  return rest, overrides


def load(
  name: str, overrides: Sequence[tuple[str, str]] = ()
) -> ml_collections.ConfigDict:
  """Loads `FILE.py[:ARG]`, applies the overrides in order and locks it.

  Or the config.json of a run.
  """
  config = _remembered(name) if name.endswith(".json") else _computed(name)
  for field, text in overrides:
    override(config, field, text)
  return config


def locked(values: Mapping[str, Any]) -> ml_collections.ConfigDict:
  """Makes the config of what JSON kept of it: lists are tuples again.

  Raises:
    ValueError: it is no mapping.
  """
  if not isinstance(values, Mapping):
    raise ValueError(f"a config is an object, not {values!r}")
  return ml_collections.ConfigDict(_tuples(values)).lock()


def _computed(name: str) -> ml_collections.ConfigDict:
  """Calls the function of a config file."""
  path, _, arg = name.partition(".py:")
  path = path if path.endswith(".py") else f"{path}.py"
  file = _find(path)
  spec = importlib.util.spec_from_file_location(
    f"launch_config_{file.stem}", file
  )
  module = importlib.util.module_from_spec(spec)
  rule = f"{file} must define get_config(arg) -> ConfigDict"
  try:
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
      raise UsageError(rule)
    config = module.get_config(arg)
  except Exception as error:
    if errors.expected(error):
      raise
    raise UsageError(_failure(file, error)) from error
  if not isinstance(config, ml_collections.ConfigDict):
    raise UsageError(f"{rule}, not {type(config).__name__}")
  return config.lock()


def _failure(file: Path, error: Exception) -> str:
  """Says what went wrong in a config file, and in which line of it."""
  lines = [
    frame.lineno
    for frame in traceback.extract_tb(error.__traceback__)
    if Path(frame.filename) == file.absolute()
  ]
  place = f", line {lines[-1]}" if lines else ""
  return f"{file}{place}: {type(error).__name__}: {error}"


def _remembered(name: str) -> ml_collections.ConfigDict:
  """Reads what a run remembers."""
  try:
    return locked(json.loads(Path(name).read_text("utf-8")))
  except (OSError, ValueError, TypeError) as error:
    raise UsageError(f"{name} is not the config.json of a run: {error}") from (
      error
    )


def _tuples(value: Any) -> Any:
  if isinstance(value, dict):
    return {key: _tuples(inner) for key, inner in value.items()}
  if isinstance(value, list):
    return tuple(_tuples(inner) for inner in value)
  return value


def override(config: ml_collections.ConfigDict, field: str, text: str) -> None:
  """Sets the dotted `field` from `text`, read by the type of its old value."""
  names = dict(flatten(config))
  if field not in names:
    inside = [name for name in names if name.startswith(f"{field}.")]
    if inside:
      raise UsageError(
        f"--config.{field} is a section: set one of its fields, such as "
        f"--config.{inside[0]}"
      )
    raise UsageError(
      f"unknown field --config.{field}{_meant_field(field, list(names))}"
    )
  *parents, last = field.split(".")
  section = config
  for parent in parents:
    section = section[parent]
  try:
    value = _parse(text, names[field])
  except (ValueError, SyntaxError) as error:
    raise UsageError(
      f"--config.{field}={text} must be {_kind(names[field])} "
      f"such as {names[field]!r}"
    ) from error
  with section.ignore_type():
    section[last] = value


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator:
  """Yields (dotted name, value) of every field, in order."""
  for key, value in config.items():
    if isinstance(value, Mapping | ml_collections.ConfigDict) and len(value):
      yield from flatten(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}", value


def step(text: str) -> int | str:
  """Parses --step: a number, or BEST."""
  return text if text == BEST else int(text)


def did_you_mean(word: str, known: Sequence[str]) -> str:
  """Returns `. Did you mean X?` for the nearest name, else the choices."""
  near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
  if near:
    return f". Did you mean {near[0]}?"
  return f": choose one of {', '.join(sorted(known))}" if known else ""


def shipped() -> list[str]:
  """Returns the names of the configs that ship: `configs/NAME.py`."""
  return sorted(
    f"configs/{entry.name}"
    for entry in resources.files("configs").iterdir()
    if entry.name.endswith(".py") and not entry.name.startswith("_")
  )


def _find(path: str) -> Path:
  """Finds a config on disk, or in the installed package."""
  if Path(path).is_file():
    return Path(path)
  parts = Path(path).parts
  if len(parts) == 2 and parts[0] == "configs":
    entry = Path(str(resources.files("configs"))) / parts[1]
    if entry.is_file():
      return entry
  raise UsageError(f"no config {path}{did_you_mean(path, shipped())}")


def _meant_field(field: str, names: list[str]) -> str:
  """Guesses a field by its whole name, else by its last part."""
  near = difflib.get_close_matches(field, names, n=1, cutoff=0.75)
  if not near:
    last = field.rsplit(".", 1)[-1]
    ends = {name.rsplit(".", 1)[-1]: name for name in names}
    match = difflib.get_close_matches(last, list(ends), n=1, cutoff=0.75)
    near = [ends[match[0]]] if match else []
  if near:
    return f". Did you mean --config.{near[0]}?"
  section = field.rsplit(".", 1)[0]
  inside = [name for name in names if name.startswith(f"{section}.")]
  tops = sorted({name.split(".")[0] for name in names})
  return f": choose among {', '.join(inside or tops)}"


def _parse(text: str, old: Any) -> Any:
  if isinstance(old, bool):
    if text.lower() in _TRUE + _FALSE:
      return text.lower() in _TRUE
    raise ValueError(text)
  if isinstance(old, int):
    value = float(text) if re.search(r"[.eE]", text) else int(text)
    if value != int(value):
      raise ValueError(text)
    return int(value)
  if isinstance(old, float):
    return float(text)
  if isinstance(old, str):
    return text
  if isinstance(old, tuple | list):
    value = ast.literal_eval(text if text.strip()[:1] in "([" else f"({text},)")
    return type(old)(value)
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text


def _kind(value: Any) -> str:
  names = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    tuple: "a tuple",
    list: "a list",
  }
  return names.get(type(value), "a value")
