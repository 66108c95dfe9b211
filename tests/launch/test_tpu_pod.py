"""The pod script against a gcloud that plays a cloud (promise P13).

The fake keeps its state in a folder. Each run of the command takes the next
word of a script: `ok`, `fail`, `preempt` (the machines go away) or `lose` (the
queued resource is suspended).
"""

import os
import subprocess

import pytest

from tests import shared

SCRIPT = shared.ROOT / "launch" / "tpu_pod.sh"

FAKE = r"""#!/usr/bin/env bash
cloud=$FAKE_CLOUD
words="$*"
echo "$words" | tr '\n' ' ' | sed 's/$/\n/' >> "$cloud/calls"
case $words in
  *"queued-resources describe"*)
    [[ -e $cloud/resource ]] || exit 1
    if [[ $(< "$cloud/resource") == WAITING_FOR_RESOURCES ]]; then
      echo WAITING_FOR_RESOURCES
      echo ACTIVE > "$cloud/resource"
      echo READY > "$cloud/node"
    else
      cat "$cloud/resource"
    fi
    ;;
  *"queued-resources create"*)
    [[ ! -e $cloud/resource ]] || exit 1
    echo WAITING_FOR_RESOURCES > "$cloud/resource" ;;
  *"queued-resources delete"*) rm -f "$cloud/resource" "$cloud/node" ;;
  *"tpu-vm describe"*) [[ -e $cloud/node ]] && cat "$cloud/node" ;;
  *"tpu-vm scp"*) [[ -s $5 ]] ;;
  *"tpu-vm ssh"*"make install"*) [[ $(< "$cloud/node") == READY ]] ;;
  *"tpu-vm ssh"*)
    word=$(head -n 1 "$cloud/script")
    sed -i 1d "$cloud/script"
    case $word in
      ok) exit 0 ;;
      fail) exit 1 ;;
      preempt) echo PREEMPTED > "$cloud/node"; exit 255 ;;
      lose) echo SUSPENDED > "$cloud/resource"; exit 255 ;;
    esac
    ;;
  *) echo "unknown: $words" >&2; exit 64 ;;
esac
"""


@pytest.fixture
def pod(tmp_path):
  """Returns run(words, *options): the script's result and gcloud's calls."""
  programs = tmp_path / "bin"
  programs.mkdir()
  (programs / "gcloud").write_text(FAKE)
  (programs / "gcloud").chmod(0o755)

  def run(words, *options, command=("python", "-m", "launch.train", "--x=a b")):
    (tmp_path / "script").write_text("\n".join(words) + "\n")
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
      [
        *(SCRIPT, "--name=dct", "--zone=z", "--type=v5litepod-16", "--poll=0"),
        *options,
        "--",
        *command,
      ],
      env={**os.environ, "PATH": path, "FAKE_CLOUD": str(tmp_path)},
      capture_output=True,
      text=True,
      timeout=60,
    )
    return done, (tmp_path / "calls").read_text().splitlines()

  return run


def _count(calls, word):
  return sum(word in call for call in calls)


def test_preemptions_have_no_limit(pod):
  done, calls = pod(["preempt", "lose"] * 4 + ["ok"], "--max_failures=1")
  assert done.returncode == 0, done.stderr
  assert "done after 8 preemptions" in done.stderr
  assert _count(calls, "queued-resources create") == 9
  assert _count(calls, "make install") == 9


def test_failures_have_one(pod):
  done, calls = pod(["fail"] * 9, "--max_failures=2")
  assert done.returncode == 1
  assert "giving up" in done.stderr
  # One machine, installed once; the command ran three times.
  assert _count(calls, "queued-resources create") == 1
  assert _count(calls, "make install") == 1
  assert _count(calls, "launch.train") == 3


def test_a_failure_is_tried_again(pod):
  done, calls = pod(["fail", "preempt", "fail", "ok"])
  assert done.returncode == 0
  assert _count(calls, "launch.train") == 4


def test_the_pod_is_deleted_unless_it_is_kept(pod, tmp_path):
  pod(["ok"])
  assert not (tmp_path / "resource").exists()
  pod(["ok"], "--keep")
  assert (tmp_path / "resource").exists()


def test_the_command_runs_on_all_hosts_as_it_was_given(pod):
  _, calls = pod(["ok"], "--spot", "--project=p", "--setup=mount /mnt/runs")
  (run,) = [call for call in calls if "launch.train" in call]
  assert "--worker=all" in run and "TESSERA_POD=1" in run
  assert r"python -m launch.train --x=a\ b" in run
  (create,) = [call for call in calls if "create" in call]
  assert "--accelerator-type=v5litepod-16" in create
  assert "--spot" in create and "--project=p" in create
  (install,) = [call for call in calls if "make install" in call]
  assert "EXTRA=tpu" in install and "mount /mnt/runs" in install


@pytest.mark.parametrize(
  "arguments, said",
  [
    (["--zone=z"], "--name is missing"),
    (["--nmae=x"], "unknown option --nmae=x"),
    (["--name=a", "--zone=z", "--type=t"], "command after -- is missing"),
  ],
)
def test_mistakes_exit_with_two(arguments, said):
  done = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True)
  assert done.returncode == 2
  assert said in done.stderr and len(done.stderr.splitlines()) == 1
