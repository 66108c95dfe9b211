"""Starts a command as one process of two devices, or as two of one each."""

import os
import socket
import subprocess
import sys

from tests import shared


def alone(program, arguments):
  """Runs a Python program to its end on one process with two devices."""
  return _finish([_start(program, arguments, devices=2)])


def pair(program, arguments):
  """Runs a Python program to its end on two processes; returns the outputs."""
  address = f"127.0.0.1:{_free_port()}"
  return _finish(
    [
      _start(
        program,
        arguments,
        devices=1,
        JAX_COORDINATOR_ADDRESS=address,
        JAX_NUM_PROCESSES="2",
        JAX_PROCESS_ID=str(index),
      )
      for index in range(2)
    ]
  )


def _free_port() -> int:
  with socket.socket() as server:
    server.bind(("127.0.0.1", 0))
    return server.getsockname()[1]


def _start(program, arguments, devices, **environment):
  flags = f"--xla_force_host_platform_device_count={devices}"
  return subprocess.Popen(
    [sys.executable, "-c", program, *arguments],
    cwd=shared.ROOT,
    env={**os.environ, "XLA_FLAGS": flags, **environment},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def _finish(processes):
  try:
    outputs = [process.communicate(timeout=300)[0] for process in processes]
  finally:
    for process in processes:
      process.kill()
  for process, output in zip(processes, outputs):
    assert process.returncode == 0, output
  return outputs
