#!/usr/bin/env bash
# Runs one command on every host of a Cloud TPU pod, for as long as it takes.
#
#   launch/tpu_pod.sh --name=dct --zone=europe-west4-b --type=v5litepod-16 \
#     --setup='sudo mount -t nfs 10.0.0.2:/runs /mnt/runs' -- \
#     python -m launch.train --config=configs/dct_imagenet.py \
#     --workdir=/mnt/runs/dct --config.platform=tpu \
#     --config.mesh.fsdp=16 --config.train.accumulate=4
#
# Asks for the pod as a queued resource, copies the committed code, installs it
# from the lock, and runs the command on all hosts. A preempted pod is asked for
# again, without limit: the command resumes from its last checkpoint. A command
# that fails on a healthy pod is tried again at most --max_failures times in a
# row. The pod is deleted at the end. The work directory has to be one that all
# hosts share (Filestore, or a bucket that --setup mounts).
#
#   --name=NAME          of the queued resource and of its node
#   --zone=ZONE
#   --type=TYPE          accelerator type, such as v5litepod-256
#   --version=VERSION    runtime version (v2-alpha-tpuv5-lite)
#   --project=PROJECT    (gcloud's default)
#   --spot               a pod that may be preempted, at a lower price
#   --setup=COMMAND      run on every host before the command (mounts, ...)
#   --max_failures=N     failures in a row before giving up (3)
#   --poll=SECONDS       between questions for the state (30)
#   --keep               leave the pod there at the end
set -euo pipefail

name= zone= type= project= spot= setup=true keep=
version=v2-alpha-tpuv5-lite
max_failures=3
poll=30
# A command that ran this long before it failed had recovered from the last one.
healthy_seconds=3600

say() { echo "$(date -u +%FT%TZ) $*" >&2; }
usage() {
  echo "tpu_pod.sh: error: $1. Try: sed -n 2,27p launch/tpu_pod.sh" >&2
  exit 2
}

while (($#)); do
  case $1 in
    --name=*) name=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --type=*) type=${1#*=} ;;
    --version=*) version=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --spot) spot=1 ;;
    --setup=*) setup=${1#*=} ;;
    --max_failures=*) max_failures=${1#*=} ;;
    --poll=*) poll=${1#*=} ;;
    --keep) keep=1 ;;
    --) shift && break ;;
    *) usage "unknown option $1" ;;
  esac
  shift
done
[[ -n $name ]] || usage "--name is missing"
[[ -n $zone ]] || usage "--zone is missing"
[[ -n $type ]] || usage "--type is missing"
(($#)) || usage "the command after -- is missing"
command -v gcloud > /dev/null || {
  echo "tpu_pod.sh: error: gcloud is not on PATH. Try: gcloud init" >&2
  exit 1
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
where=(--zone="$zone" ${project:+--project="$project"})
tpus() { gcloud compute tpus "$@" "${where[@]}" --quiet; }

state() {
  tpus queued-resources describe "$name" --format='value(state.state)' \
    2> /dev/null || echo ABSENT
}

health() {
  tpus tpu-vm describe "$name" --format='value(state)' 2> /dev/null \
    || echo ABSENT
}

everywhere() { tpus tpu-vm ssh "$name" --worker=all --command="$1"; }

remove() {
  tpus queued-resources delete "$name" --force > /dev/null 2>&1 || true
}

# Asks for the pod and waits until it is there.
create() {
  while true; do
    case $(state) in
      ACTIVE) return ;;
      ABSENT)
        say "asking for $type in $zone"
        tpus queued-resources create "$name" --node-id="$name" \
          --accelerator-type="$type" --runtime-version="$version" \
          ${spot:+--spot} || { say "refused; asking again" && sleep "$poll"; }
        ;;
      SUSPEND* | FAILED) remove ;;
      *) sleep "$poll" ;;
    esac
  done
}

# Copies the committed code to every host and installs it from the lock.
install() {
  local archive
  archive=$folder/tessera.tar.gz
  git -C "$root" archive --format=tar.gz -o "$archive" HEAD || return 1
  tpus tpu-vm scp "$archive" "$name:tessera.tar.gz" --worker=all || return 1
  everywhere "set -e
    mkdir -p tessera && tar xzf tessera.tar.gz -C tessera && cd tessera
    command -v python3.11 > /dev/null || {
      sudo apt-get -q update && sudo apt-get -qy install python3.11-venv
    }
    make install EXTRA=tpu PYTHON=python3.11
    $setup"
}

# Runs the command on every host, after ending what a lost connection left.
run() {
  everywhere "cd tessera && export TESSERA_POD=1 PATH=\$PWD/.venv/bin:\$PATH
    kill \$(cat ../tessera.pid) 2> /dev/null && sleep 10
    echo \$\$ > ../tessera.pid
    exec $(printf '%q ' "$@")"
}

trap 'say "interrupted: the pod $name is still there. Try: gcloud compute tpus \
queued-resources delete $name --zone=$zone --force"; exit 130' INT TERM

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0 preemptions=0 code=1 installed=
while true; do
  create
  started=$SECONDS
  if { [[ -n $installed ]] || install; } && installed=1 && run "$@"; then
    say "done after $preemptions preemptions"
    code=0
    break
  fi
  if [[ $(state) != ACTIVE || $(health) != READY ]]; then
    preemptions=$((preemptions + 1))
    say "preempted ($preemptions so far): asking for another pod"
    remove
    installed=
    continue
  fi
  ((SECONDS - started < healthy_seconds)) || failures=0
  failures=$((failures + 1))
  if ((failures > max_failures)); then
    say "failed $failures times in a row: giving up"
    break
  fi
  say "failed ($failures of at most $max_failures): running it again"
  sleep "$poll"
done
[[ -n $keep ]] || remove
exit "$code"
