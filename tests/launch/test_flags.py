import pytest

from launch import errors, flags

CONFIG = """
import ml_collections

def get_config(arg=""):
  if arg not in ("", "tiny"):
    raise ValueError(f"unknown form {arg!r}: choose tiny or nothing")
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.model = ml_collections.ConfigDict(
    {"width": 8 if arg else 64, "gate": 0.1, "layers": (2, 2), "scan": True})
  config.data = ml_collections.ConfigDict({"dir": "", "limit": None})
  return config
"""


@pytest.fixture
def config_file(tmp_path):
  path = tmp_path / "toy.py"
  path.write_text(CONFIG)
  return str(path)


def _parse(*argv, config="required"):
  parser = flags.Parser("Doc.", "launch.toy", config=config)
  parser.add_argument("--workdir")
  return parser.parse_arguments(list(argv))


def test_config_argument_is_passed_on(config_file):
  assert _parse(f"--config={config_file}").config.model.width == 64
  assert _parse(f"--config={config_file}:tiny").config.model.width == 8


def test_config_of_a_run_is_read_and_overridden(tmp_path):
  path = tmp_path / "config.json"
  path.write_text('{"seed": 3, "model": {"layers": [2, 2], "width": 8}}')
  config = _parse(f"--config={path}", "--config.model.width=16").config
  assert (config.seed, config.model.width) == (3, 16)
  assert config.model.layers == (2, 2)
  path.write_text("[1, 2")
  with pytest.raises(flags.UsageError, match="is not the config"):
    _parse(f"--config={path}")


def test_overrides_take_the_type_of_the_field(config_file):
  config = _parse(
    f"--config={config_file}",
    "--config.model.width=3e2",
    "--config.model.gate=1",
    "--config.model.layers=1,2,3",
    "--config.model.scan=false",
    "--config.data.dir=a=b c",
    "--config.data.limit",
    "12",
  ).config
  assert config.model.width == 300 and isinstance(config.model.width, int)
  assert config.model.gate == 1.0 and isinstance(config.model.gate, float)
  assert config.model.layers == (1, 2, 3)
  assert config.model.scan is False
  assert config.data.dir == "a=b c"
  assert config.data.limit == 12


def test_last_override_wins(config_file):
  config = _parse(
    f"--config={config_file}", "--config.seed=1", "--config.seed=2"
  ).config
  assert config.seed == 2


@pytest.mark.parametrize(
  "override, said",
  [
    ("--config.model.widht=3", "Did you mean --config.model.width?"),
    ("--config.width=3", "Did you mean --config.model.width?"),
    ("--config.model.xyzzy=3", "choose among model.gate"),
    ("--config.model.width=abc", "a whole number such as 64"),
    ("--config.model.width=1.5", "a whole number"),
    ("--config.model.scan=maybe", "true or false"),
    ("--config.model=3", "is a section"),
    ("--config.seed", "needs a value"),
    ("--wrokdir=x", "Did you mean --workdir?"),
    ("stray", "unexpected argument"),
  ],
)
def test_mistake_exits_with_two_and_a_hint(config_file, override, said):
  with pytest.raises(flags.UsageError) as caught:
    _parse(f"--config={config_file}", override)
  assert caught.value.code == 2
  assert said in str(caught.value)


def test_missing_config_names_the_nearest(tmp_path, monkeypatch):
  monkeypatch.setattr(flags, "shipped", lambda: ["configs/dct_scenes.py"])
  with pytest.raises(flags.UsageError, match=r"mean configs/dct_scenes\.py"):
    _parse("--config=configs/dct_scene.py")


def test_config_is_required_or_optional(config_file):
  with pytest.raises(flags.UsageError, match="--config"):
    _parse()
  assert _parse(config="optional").config is None
  with pytest.raises(flags.UsageError, match="needs --config=FILE"):
    _parse("--config.seed=1", config="optional")


def test_unknown_form_is_the_configs_own_error(config_file):
  with pytest.raises(ValueError, match="choose tiny or nothing"):
    _parse(f"--config={config_file}:small")


@pytest.mark.parametrize(
  "text, said",
  [
    ("x = 1\ndef get_config(arg:\n", "SyntaxError"),
    ("def get_config(arg):\n  return 1 / 0\n", "line 2: ZeroDivisionError"),
    ("import json\njson.no_such\n", "line 2: AttributeError"),
    ("def get_config():\n  return {}\n", "TypeError"),
    ("def get_config(arg):\n  return {}\n", "must define get_config"),
  ],
)
def test_a_broken_config_is_one_line_with_its_file(
  text, said, tmp_path, monkeypatch, capsys
):
  (tmp_path / "broken.py").write_text(text)
  monkeypatch.chdir(tmp_path)
  command = errors.command(lambda argv: _parse(*argv))
  assert command(["--config=broken.py"]) == errors.EXIT_USAGE
  error = capsys.readouterr().err
  assert len(error.splitlines()) == 1
  assert "broken.py" in error and said in error


def test_config_is_locked(config_file):
  config = _parse(f"--config={config_file}").config
  with pytest.raises((KeyError, AttributeError)):
    config.model.new_field = 1


def test_flatten_lists_every_field(config_file):
  names = [name for name, _ in flags.flatten(flags.load(config_file))]
  model = ("width", "gate", "layers", "scan")
  expected = ["seed", *(f"model.{name}" for name in model)]
  assert sorted(names) == sorted([*expected, "data.dir", "data.limit"])
