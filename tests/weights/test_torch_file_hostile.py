"""Structure-aware attacks: pickles, opcodes, zip records, every byte."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.weights import torch_writer as writer
from weights import pickle_machine, torch_file

ROOT = Path(__file__).resolve().parents[2]

VALUE = {
  "state_dict": {
    "w": writer.tensor(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "flag": writer.tensor(np.array([True, False])),
  },
  "hooks": writer.Raw(b"cnumpy.core.multiarray\nscalar\nK\x01\x85R"),
  "epoch": 3,
}

HOSTILE = {
  "system": b"cos\nsystem\nX\x02\x00\x00\x00id\x85R",
  "eval": b"c__builtin__\neval\nX\x04\x00\x00\x001+1)\x85R",
  "stack global": b"\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R",
  "new": b"csubprocess\nPopen\n(](X\x02\x00\x00\x00idet\x81",
  "new with keywords": b"csubprocess\nPopen\n)}X\x01\x00\x00\x00aK\x01s\x92",
  "open": b"cio\nopen\nX\x0b\x00\x00\x00/etc/passwd\x85R",
  "getattr": b"c__builtin__\ngetattr\ncos\npath\nX\x01\x00\x00\x00s\x86R)R",
  "through a parameter": b"ctorch._tensor\n_rebuild_from_type_v2\n"
  b"(cos\nsystem\nNX\x02\x00\x00\x00id\x85NtR",
  "state": b"ccollections\nOrderedDict\n)R}X\x0c\x00\x00\x00__setstate__"
  b"cos\nsystem\nsb",
  "inst": b"(X\x02\x00\x00\x00idios\nsystem\n",
  "object": b"(cos\nsystem\nX\x02\x00\x00\x00ido",
  "extension": b"\x82\x01",
}


def read_all(data: bytes, path) -> str:
  path.write_bytes(data)
  try:
    torch_file.read(path)
  except torch_file.TorchFileError as error:
    return str(error)
  return ""


AUDIT = """
import json, sys
import numpy, ml_dtypes
from weights import torch_file
paths, seen = json.load(sys.stdin), []
on = [False]
def hook(event, args):
  if on[0] and not (event == "open" and args[0] in paths or
                    event == "mmap.__new__"):
    seen.append((event, str(args)[:200]))
sys.addaudithook(hook)
results = []
for path in paths:
  on[0] = True
  try:
    contents = torch_file.read(path)
    outcome = "stubs"
    for name in contents.stubs: outcome += " " + name
  except torch_file.TorchFileError as error:
    outcome = "refused"
  on[0] = False
  results.append(outcome)
print(json.dumps([results, seen]))
"""


def test_nothing_is_executed_opened_or_imported(tmp_path):
  paths = []
  for name, opcodes in HOSTILE.items():
    for form in (writer.zip_bytes, writer.stream_bytes):
      path = tmp_path / f"{name}-{form.__name__}"
      path.write_bytes(form({"a": writer.Raw(opcodes)}))
      paths.append(str(path))
  done = subprocess.run(
    [sys.executable, "-c", AUDIT],
    input=json.dumps(paths),
    capture_output=True,
    text=True,
    cwd=ROOT,
    timeout=60,
    check=True,
  )
  results, seen = json.loads(done.stdout)
  assert seen == []
  for path, result in zip(paths, results):
    known = ("os.", "builtin", "subprocess.", "io.")
    assert (
      result == "refused"
      or any(k in result for k in known)
      or ("state" in path)
    ), (path, result)


def bomb(levels: int) -> bytes:
  """Tuples of tuples of tuples: small to write, 2^levels to walk."""
  return b")" + b"2\x86" * levels


COSTLY = {
  "nested key": b"}" + bomb(60) + b"K\x01s",
  "nested set": b"(" + bomb(60) + b"\x91",
  "copies": b"]("
  + b"K\x01K\x02\x86" * 5000
  + b"eq\x00"
  + b"ccollections\nOrderedDict\nh\x00\x85R0" * 5000,
  "name": b"X"
  + (1 << 20).to_bytes(4, "little")
  + b"a" * (1 << 20)
  + b"q\x00"
  + b"h\x00h\x00\x930" * 1000,
  "lists": b"]" * (3 << 20),
  "text": b"X\xff\xff\xff\xff",
  "wide text": b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
  "integer": b"\x8b\xff\xff\xff\x7f",
  "memo": b"Nr\xff\xff\xff\xff",
  "deep": b"(" * 100000 + b"t" * 100000,
}


@pytest.mark.parametrize("case", list(COSTLY))
def test_costly_pickles_end_soon(tmp_path, case):
  start = time.monotonic()
  data = writer.zip_bytes(writer.Raw(COSTLY[case]))
  error = read_all(data, tmp_path / "f")
  assert time.monotonic() - start < 20
  assert error or case in ("memo", "deep")


def test_memory_stays_below_the_stated_limit(tmp_path):
  resource = pytest.importorskip("resource")
  assert resource
  path = tmp_path / "f"
  path.write_bytes(writer.zip_bytes(writer.Raw(b"}\x94" * (2 << 20))))
  code = f"""
import resource
from weights import torch_file
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
  torch_file.read({str(path)!r})
except torch_file.TorchFileError as error:
  assert "steps" in str(error), error
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
  done = subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    text=True,
    cwd=ROOT,
    timeout=60,
    check=True,
  )
  assert int(done.stdout) < 1 << 20


@pytest.mark.parametrize("form", ["zip", "stream"])
def test_every_truncation_is_one_typed_error(tmp_path, form):
  make = writer.zip_bytes if form == "zip" else writer.stream_bytes
  data = make(VALUE)
  step = 1 if form == "stream" else 3
  for length in range(0, len(data), step):
    assert read_all(data[:length], tmp_path / "f"), length


@pytest.mark.parametrize("form", ["zip", "stream"])
def test_mutations_give_a_value_or_one_typed_error(tmp_path, form):
  make = writer.zip_bytes if form == "zip" else writer.stream_bytes
  data = make(VALUE)
  draw = random.Random(0)
  for _ in range(1500):
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8))):
      at = draw.randrange(len(changed))
      action = draw.randrange(3)
      if action == 0:
        changed[at] = draw.choice((0, 255, draw.randrange(256)))
      elif action == 1:
        del changed[at]
      else:
        changed.insert(at, draw.randrange(256))
    read_all(bytes(changed), tmp_path / "f")


def test_random_opcodes_give_a_value_or_one_typed_error(tmp_path):
  codes = [*pickle_machine._OPCODES, ord("i"), ord("o"), 0x82, ord("I")]
  draw = random.Random(1)
  snippets = [*HOSTILE.values(), b"K\x01", b"K\x00", b"ctorch\nFloatStorage\n"]
  snippets += [b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nSize\n"]
  snippets += [b"ccollections\nOrderedDict\n", b"X\x07\x00\x00\x00storage"]
  snippets += [
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
  ]
  found = set()
  for _ in range(3000):
    parts = []
    for _ in range(draw.randrange(1, 30)):
      if draw.random() < 0.4:
        parts.append(draw.choice(snippets))
      else:
        parts.append(bytes([draw.choice(codes)]))
    members = {
      "a/data.pkl": b"\x80\x02" + b"".join(parts) + b".",
      "a/data/0": bytes(16),
    }
    error = read_all(writer.stored_zip(members), tmp_path / "f")
    found.add(error.split(": ")[-1][:12])
  assert len(found) > 10
