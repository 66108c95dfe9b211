"""What this process may use of the machine."""

import os


def num_cores() -> int:
  """Return the processor cores that this process is allowed to run on."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1
