"""How a command ends: one clear line and an exit code, no traceback.

A wrong value, a missing file or a full disk is the user's to mend: it prints
`launch.train: error: MESSAGE. Try: COMMAND` and exits 1 (2 for a misspelt
flag). Anything else is our mistake and keeps its traceback, as does everything
with --debug.
"""

import functools
import os
import shlex
import sys
from collections.abc import Callable

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
DEBUG_FLAG = "--debug"

_OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory")
_EXPECTED = (ValueError, OSError, ImportError, MemoryError)


class CommandError(ValueError):
  """A failure with the command that mends it.

  Args:
    message: value, rule and remedy in one line.
    command: what to type next, shown after `Try:`.
    code: the exit code.
  """

  def __init__(self, message: str, command: str = "", code: int = EXIT_ERROR):
    super().__init__(message)
    self.command = command
    self.code = code


def command(main: Callable[..., int | None]) -> Callable[..., int]:
  """Wraps `main(argv)` of a command: returns its exit code, never raises it.

  Errors of the user become one line on stderr. With --debug among the
  arguments every exception passes through.
  """

  @functools.wraps(main)
  def wrapped(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
      return main(arguments) or 0
    except BrokenPipeError:
      # The reader of our output (`| head`) went away: say nothing.
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
      return EXIT_ERROR
    except KeyboardInterrupt:
      print(f"{name(main)}: interrupted", file=sys.stderr)
      return EXIT_INTERRUPTED
    except Exception as error:
      if DEBUG_FLAG in arguments or not expected(error):
        raise
      print(line(name(main), error, arguments), file=sys.stderr)
      return getattr(error, "code", EXIT_ERROR)

  return wrapped


def expected(error: BaseException) -> bool:
  """Says whether an exception is the user's to mend."""
  return (
    isinstance(error, _EXPECTED) or _exhausted(error) or bool(_lacking(error))
  )


def line(program: str, error: BaseException, arguments: list[str]) -> str:
  """Formats an exception as the one line that a command prints."""
  if isinstance(error, MemoryError) or _exhausted(error):
    message = (
      "out of memory: halve train.batch_size, raise train.accumulate, set "
      "train.remat, or split the state with mesh.fsdp=-1"
    )
    hint = _again(program, [*arguments, "--dry_run"])
  else:
    message = _lacking(error) or _joined(str(error)) or type(error).__name__
    if isinstance(error, ImportError):
      message += " (an optional package is missing or broken)"
      hint = "python -m launch.doctor"
    else:
      hint = getattr(error, "command", "") or _again(
        program, [*arguments, DEBUG_FLAG]
      )
  message = message.rstrip(".")
  end = "" if message.endswith("?") else "."
  return f"{program}: error: {message}{end} Try: {hint}"


def name(main: Callable) -> str:
  """Returns the name of the command as it is typed: launch.train."""
  module = main.__module__
  if module == "__main__":
    spec = sys.modules["__main__"].__spec__
    module = spec.name if spec else "launch"
  return module


def _joined(text: str) -> str:
  """Makes one line of several: a semicolon where a line was complete."""
  lines = [" ".join(line.split()) for line in text.splitlines()]
  joined = ""
  for line in filter(None, lines):
    between = " " if joined.endswith((":", ",", ";")) else "; "
    joined += (between if joined else "") + line
  return joined


def _exhausted(error) -> bool:
  kind = type(error).__name__
  text = str(error)
  return kind in ("XlaRuntimeError", "JaxRuntimeError") and any(
    sign in text for sign in _OUT_OF_MEMORY
  )


def _lacking(error) -> str:
  """Says which field a config lacks that was read; "" for other errors."""
  config = getattr(error, "obj", None)
  if type(config).__name__ != "ConfigDict":
    return ""
  held = ", ".join(config) or "nothing"
  return f"the config lacks {error.name!r}: there it has {held}"


def _again(program, arguments) -> str:
  return " ".join(["python", "-m", program, *map(shlex.quote, arguments)])
