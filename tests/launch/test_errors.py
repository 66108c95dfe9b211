import subprocess
import sys

import pytest

from launch import errors
from tests import shared


def _failing(error):
  @errors.command
  def main(argv):
    raise error

  return main


@pytest.mark.parametrize(
  "error, code",
  [
    (ValueError("batch_size 3 must be even"), 1),
    (FileNotFoundError(2, "No such file", "x.npz"), 1),
    (errors.CommandError("no such label", "ls labels", code=2), 2),
    (MemoryError(), 1),
    (KeyboardInterrupt(), 130),
  ],
)
def test_user_error_is_one_line_and_a_code(error, code, capsys):
  assert _failing(error)(["--workdir=a b"]) == code
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1
  if code != 130:
    assert " error: " in lines[0] and "Try: " in lines[0]


def test_message_of_several_lines_becomes_one(capsys):
  _failing(ValueError("fields differ:\n  a: 1\n  b:  2\nUse the old."))([])
  assert "fields differ: a: 1; b: 2; Use the old. Try:" in (
    capsys.readouterr().err
  )


def test_a_question_ends_the_message(capsys):
  _failing(ValueError("no x. Did you mean y?"))([])
  assert "Did you mean y? Try:" in capsys.readouterr().err


def test_hint_repeats_the_command_with_debug(capsys):
  _failing(ValueError("x"))(["--workdir=a b"])
  assert "'--workdir=a b' --debug" in capsys.readouterr().err


def test_hint_of_the_error_comes_first(capsys):
  _failing(errors.CommandError("x", "make demo"))([])
  assert capsys.readouterr().err.rstrip().endswith("Try: make demo")


def test_our_mistakes_keep_their_traceback():
  with pytest.raises(TypeError):
    _failing(TypeError("bug"))([])


def test_debug_keeps_every_traceback():
  with pytest.raises(ValueError):
    _failing(ValueError("x"))(["--debug"])


def test_exhausted_memory_is_explained():
  class XlaRuntimeError(RuntimeError):
    pass

  error = XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory while ...")
  assert errors.expected(error)
  assert "train.batch_size" in errors.line("launch.train", error, [])
  assert not errors.expected(XlaRuntimeError("INTERNAL: ..."))


def test_exit_code_of_a_process_and_its_name():
  code = (
    "import sys; from launch import errors\n"
    "@errors.command\n"
    "def main(argv): raise ValueError('no')\n"
    "sys.exit(main())"
  )
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=shared.ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 1
  assert "Traceback" not in done.stderr


def test_success_returns_zero():
  @errors.command
  def main(argv):
    return None

  assert main([]) == 0
