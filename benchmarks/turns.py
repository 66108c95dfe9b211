"""How benchmarks take turns, count compilations and say where they ran.

Programs that are compared run one after the other, again and again, so that a
busy moment of the machine hits all of them alike.
"""

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from training import environment

_COMPILED = "/jax/core/compile/backend_compile_duration"
_MIB = 2**20

# Of each run, wall and CPU seconds.
Times = dict[Any, tuple[list[float], list[float]]]


def add_threads(parser: argparse.ArgumentParser) -> None:
  """Add --threads, by default the cores that this process may use."""
  parser.add_argument(
    "--threads",
    type=int,
    default=_num_cores(),
    help="cores that all contestants have; default all",
  )


def use_threads(count: int, parser: argparse.ArgumentParser) -> None:
  """Keep JAX and whatever it is compared with to so many cores.

  XLA's CPU client takes no number of threads: it starts as many as the process
  may use cores when it begins, so call this before anything computes. Threads
  begun later inherit it. Ends the command by `parser` where there are not so
  many, or where this system cannot leave any out.
  """
  have = _num_cores()
  if not 1 <= count <= have:
    parser.error(f"--threads {count} must be 1 to {have}, the cores here")
  if count == have:
    return
  if not hasattr(os, "sched_setaffinity"):
    parser.error(
      f"--threads {count}: only Linux keeps JAX to fewer than all {have} "
      "cores: leave the flag out"
    )
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def interleave(runs: Mapping[Any, Callable[[], object]], repeats: int) -> Times:
  """Run all once, then in turns."""
  for run in runs.values():
    run()
  times: Times = {name: ([], []) for name in runs}
  for _ in range(repeats):
    for name, run in runs.items():
      wall, cpu = time.perf_counter(), time.process_time()
      run()
      times[name][0].append(time.perf_counter() - wall)
      times[name][1].append(time.process_time() - cpu)
  return times


@contextlib.contextmanager
def count_compilations() -> Iterator[list[int]]:
  """Count the programs compiled inside; yields [count], which grows."""
  count = [0]

  def listen(event: str, seconds: float, **_: object) -> None:
    del seconds
    count[0] += event == _COMPILED

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield count
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)


def describe(name: str, args: argparse.Namespace) -> dict[str, Any]:
  """Say what was run, where, and how busy the machine was."""
  return {
    "benchmark": name,
    **vars(args),
    "load": round(os.getloadavg()[0], 2),
    "cores": os.cpu_count(),
    "environment": environment.describe(),
  }


def temporary_mib(program: Any) -> float:
  """Return a compiled program's temporary memory, 0 where it is not known."""
  analysis = program.memory_analysis()
  return 0.0 if analysis is None else analysis.temp_size_in_bytes / _MIB


def _num_cores() -> int:
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1
