"""What the tests of every family of configs share."""

import math

import jax

from launch import dry_run, flags, tasks


def load(name):
  """Load a config by its name: "dct_lsun" or "dct_lsun.py:tower"."""
  return flags.load(
    f"configs/{name}" if ".py" in name else f"configs/{name}.py"
  )


def tiny(name):
  """Load its tiny form."""
  stem, _, arg = name.partition(".py:")
  return load(f"{stem}.py:{arg},tiny" if arg else f"{stem}.py:tiny")


def abstract(config):
  """Return (the task, the shapes of its state) of a config."""
  adapter = tasks.get(config.task)
  measured = tasks.measured_or_assumed(adapter, config)
  task = adapter.make_task(config, measured)
  return task, dry_run.abstract_state(task, measured)


def count(params):
  """Return the number of parameters of a tree of shapes."""
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def misfits(name, dataset=("data.",)):
  """Return the fields that a tiny form changes but must not.

  It may change numbers, to others of the same type, and the dataset.

  Args:
    name: of the config.
    dataset: what the fields that belong to the dataset begin with.
  """
  full, small = (dict(flags.flatten(x(name))) for x in (load, tiny))
  outside = lambda fields: {x for x in fields if not x.startswith(dataset)}
  found = outside(full) ^ outside(small)
  for field in outside(full) & outside(small):
    old, new = full[field], small[field]
    parts = new if isinstance(new, tuple) else (new,)
    numbers = all(type(x) in (int, float) for x in parts)
    if new != old and not (numbers and type(new) is type(old)):
      found.add(field)
  return found


def shipped(prefix):
  """Return the files of the configs of a family."""
  found = [name.split("/")[1] for name in flags.shipped()]
  return {name for name in found if name.startswith(prefix)}


def files(names):
  """Return the files of configs given by name."""
  return {f"{name.partition('.py')[0]}.py" for name in names}
