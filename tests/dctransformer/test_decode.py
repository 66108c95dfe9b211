"""Sampling: equal to teacher forcing, exact prefixes, independent samples."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dctransformer import chunks, dct, decode, model, moves, prefix, sparse
from layers import logits as logits_lib
from tests.dctransformer import tiny, watch
from training import task as task_lib

B = 4
FIELDS = ("channel", "position", "value")
_STEPS = tuple(f"step_{name}" for name in FIELDS)


@pytest.fixture(scope="module")
def setup():
  """Return (task, state, run): run(keys, condition, settings) -> Samples."""
  task = tiny.make_task()
  state = _init(task)
  return task, state, _Run(task, state)


def _init(task):
  state = tiny.init_task(task)
  # A random model jumps to the end of the order at once: favour small steps.
  head = state.params["params"]["channel_head"]
  rank = sparse.visit_rank(task.codec)
  head["bias"] = jnp.append(-0.5 * rank, -40.0).astype(jnp.float32)
  return state


class _Run:
  """The compiled sampler, and the logits of every step of its last call."""

  def __init__(self, task, state):
    self.program = jax.jit(functools.partial(task.sample, state))
    self._plan, self._seen = task.plan, []

  def __call__(self, keys, condition, settings):
    """Return the `Samples`."""
    self._seen.clear()
    with watch.calls(self._seen, *_STEPS):
      return jax.block_until_ready(self.program(keys, condition, settings))

  def logits(self):
    """Return `model.Logits` [b, m, ...] by element; NaN where no step was."""
    found = {}
    for name, args, result in self._seen:
      if name == "step_channel":
        slot, chunk = args[1], args[2][0]
        l = chunk * self._plan.chunk_len + slot - self._plan.overlap
      logits = result[0]
      room = (len(logits), self._plan.max_elements, logits.shape[-1])
      every = found.setdefault(name, np.full(room, np.nan, np.float32))
      every[:, l] = logits
    return model.Logits(*(found[name] for name in _STEPS))


def _teacher_forced(task, state, condition, elements):
  """Return `Logits` [b, m, ...] without caches, and the slots [b, m]."""

  @jax.jit
  def forward(index):
    chunk = chunks.slice_chunk(task.codec, task.plan, elements, index)
    out = task.model.apply(
      state.params,
      chunk,
      sparse.to_coefficients(task.codec, elements, chunk.start),
      state.frozen["channel_std"],
      condition.label,
      condition.blocks,
    )
    new = lambda x: x[:, task.plan.overlap :]
    fields = {x.name: getattr(chunk, x.name) for x in dataclasses.fields(chunk)}
    lists = {name: new(x) for name, x in fields.items() if x.ndim == 2}
    return jax.tree.map(new, out), lists

  found = [
    jax.device_get(forward(jnp.full((B,), k)))
    for k in range(task.plan.max_chunks)
  ]
  join = lambda *parts: np.concatenate(parts, axis=1)
  logits, lists = jax.tree.map(join, *found)
  return logits, types.SimpleNamespace(**lists)


def _condition(task, given=None, label=0, first_rank=0):
  empty = decode.empty_prefix(B, task.plan.max_elements)
  return decode.Condition(
    label=jnp.full((B,), label, jnp.int32),
    blocks=jnp.array([[4, 4], [4, 4], [2, 4], [4, 2]], jnp.int32),
    prefix=empty if given is None else given,
    first_rank=jnp.full((B,), first_rank, jnp.int32),
  )


def _keys(seed=0):
  return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(
    jnp.arange(B)
  )


def _settings(**kwargs):
  return decode.Settings.create(**kwargs)


@dataclasses.dataclass(frozen=True)
class _Drawn:
  """A batch of samples, what they were drawn from and what that should be."""

  condition: decode.Condition
  samples: task_lib.Samples
  cached: model.Logits  # [b, m, ...], of the sampler's steps
  forced: model.Logits  # [b, m, ...], of the task's chunks of the same lists
  slots: types.SimpleNamespace  # the fields of `Chunk`, [b, m]


@pytest.fixture(scope="module")
def drawn(setup):
  """Return one `_Drawn`; its lists are longer than two chunks."""
  task, state, run = setup
  condition = _condition(task)
  samples = run(_keys(), condition, _settings())
  lists = samples.tokens
  assert int(lists.length.max()) > 2 * task.plan.chunk_len
  room = task.plan.max_elements
  total = jnp.where(lists.length < room, lists.length, room + 1)
  forced = _teacher_forced(task, state, condition, lists.replace(total=total))
  return _Drawn(condition, samples, run.logits(), *forced)


@pytest.mark.smoke
def test_cached_logits_are_the_teacher_forced_ones_at_every_step(drawn):
  # Every logit that the sampler drew from, against an uncached pass over the
  # list that came out, chunk by chunk: across chunks and with their overlap.
  held = dict.fromkeys(FIELDS, drawn.slots.count_element)
  held["channel"] = drawn.slots.count_channel
  for name, mask in held.items():
    ours, theirs = (
      getattr(logits, name)[mask] for logits in (drawn.cached, drawn.forced)
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4, err_msg=name)
    assert np.ptp(ours, axis=-1).min() > 1e-2  # no flat logits agree by chance
  assert held["channel"].sum() >= int(drawn.samples.tokens.length.sum())


def test_samples_are_draws_from_the_teacher_forced_logits(setup, drawn):
  # With the same keys: element l of a sample draws with fold_in(key, l).
  codec, slots, logits = setup[0].codec, drawn.slots, drawn.forced
  at = jnp.arange(slots.channel.shape[1])
  split = lambda key, l: jax.random.split(jax.random.fold_in(key, l), 3)
  keys = jax.vmap(lambda key: jax.vmap(lambda l: split(key, l))(at))(_keys())
  channels, positions = _legal(codec, drawn)
  draw = jax.vmap(logits_lib.draw)
  channel = draw(keys[..., 0], logits_lib.exclude(logits.channel, channels))
  position = draw(keys[..., 1], logits_lib.exclude(logits.position, positions))
  value = dct.class_value(codec, draw(keys[..., 2], logits.value))
  new, whole = slots.count_channel, slots.count_element
  np.testing.assert_array_equal(channel[new], slots.channel[new])
  np.testing.assert_array_equal(position[whole], slots.position[whole])
  np.testing.assert_array_equal(value[whole], slots.value[whole])


def _legal(codec, drawn):
  """Return the legal channels and positions of elements, bool [b, m, ...]."""
  slots, blocks = drawn.slots, drawn.condition.blocks[:, None]
  before = slots.previous_channel, slots.previous_position
  channel = jnp.where(slots.count_element, slots.channel, 0)
  return (
    moves.legal_channels(codec, *before, blocks),
    moves.legal_positions(codec, channel, *before, blocks),
  )


def test_bits_are_those_of_a_list_fed_element_by_element(setup):
  # The cached step is given three lists; one row draws, so that it begins at
  # the first element. The bits of a list and of its stop are what the task
  # sums over its chunks.
  task, state, run = setup
  batch = tiny.make_batch([0] * B)
  lengths = jnp.array([0, 29, 36, 53], jnp.int32)
  kept = jnp.arange(task.plan.max_elements) < lengths[:, None]
  lists = {name: jnp.where(kept, batch[name], 0) for name in FIELDS}
  given = sparse.Elements(
    **jax.tree.map(lambda x: x.astype(jnp.int32), lists),
    length=lengths,
    total=lengths,
  )
  condition = _condition(task, given).replace(blocks=batch["blocks"])
  run(_keys(), condition, _settings())
  log = jax.tree.map(lambda x: jax.nn.log_softmax(x) / np.log(2), run.logits())
  log, given = jax.device_get((log, given))
  expected = np.zeros((B, 3))
  for i, n in enumerate(lengths.tolist()):
    for l in range(n):
      value = int(given.value[i, l])
      rank = value + task.codec.max_value - (1 if value > 0 else 0)
      expected[i] -= (
        log.channel[i, l, given.channel[i, l]],
        log.position[i, l, given.position[i, l]],
        log.value[i, l, rank],
      )
    expected[i, 0] -= log.channel[i, n, task.codec.stop]

  batch |= lists | {"length": lengths, "total": lengths}
  batch |= {"label": condition.label, "mask": jnp.ones(B, bool)}
  evaluate, got = jax.jit(task.eval_step), 0
  for k in range(task.plan.max_chunks):
    rows = evaluate(state, {**batch, "chunk": jnp.full((B,), k)}, None)
    got += np.stack([rows[f"bits_{name}"] for name in FIELDS], axis=1)
  assert (got[1:] > 20).all()
  np.testing.assert_allclose(got[1:], expected[1:], rtol=1e-4)


def test_samples_are_sorted_and_inside_the_image(setup):
  task, _, run = setup
  condition = _condition(task)
  tokens = run(_keys(), condition, _settings()).tokens
  rank = sparse.visit_rank(task.codec)
  for i in range(B):
    n = int(tokens.length[i])
    channel, position = tokens.channel[i, :n], tokens.position[i, :n]
    order = rank[channel] * task.codec.num_positions + position
    assert (np.diff(order) > 0).all()
    row, col = position // task.codec.cols, position % task.codec.cols
    assert (row < condition.blocks[i, 0]).all()
    assert (col < condition.blocks[i, 1]).all()
    chroma = channel >= task.codec.block**2
    assert (row[chroma] % 2 == 0).all() and (col[chroma] % 2 == 0).all()
    assert (tokens.value[i, :n] != 0).all()
    assert (tokens.value[i, n:] == 0).all()


def test_prefix_comes_back_exactly(setup):
  task, _, run = setup
  coefficients = dct.to_coefficients(task.codec, tiny.make_images(B))
  given = sparse.to_elements(task.codec, coefficients, task.plan.max_elements)
  lengths = jnp.array(
    [0, 7, 14, 60], jnp.int32
  )  # none, in a chunk, across, everything
  kept = jnp.arange(task.plan.max_elements) < lengths[:, None]
  cut = lambda x: jnp.where(kept, x, 0)
  given = sparse.Elements(
    cut(given.channel),
    cut(given.position),
    cut(given.value),
    lengths,
    lengths,
  )
  condition = _condition(task, given).replace(
    blocks=jnp.full((B, 2), 4, jnp.int32)
  )
  tokens = run(_keys(), condition, _settings()).tokens
  for name in ("channel", "position", "value"):
    expected, got = getattr(given, name), getattr(tokens, name)
    np.testing.assert_array_equal(cut(got), expected)
  assert (tokens.length >= lengths).all()
  assert int(tokens.length[3]) == 60


@pytest.mark.parametrize("kind", ["upsample", "colorize"])
def test_zeros_at_the_end_of_what_is_given_stay_zeros(setup, kind):
  # Flat grey images: no chroma DC in the small one, no high luma frequency.
  task, _, run = setup
  if kind == "colorize":
    codec = dataclasses.replace(task.codec, order="luma_first")
    task = tiny.make_task(codec=codec)
    run = jax.jit(functools.partial(task.sample, _init(task)))
  images = np.full((B, 32, 32, 3), [[[[40]]], [[[90]]], [[[200]]], [[[128]]]])
  coefficients = dct.to_coefficients(task.codec, images.astype(np.uint8))
  room = task.plan.max_elements
  whole = sparse.to_elements(task.codec, coefficients, room)
  given = prefix.take(task.codec, whole, kind)
  assert given.length.tolist() == [16, 16, 16, 0]  # 128 is all zeros
  first = prefix.first_rank(task.codec, kind)
  condition = _condition(task, given, first_rank=first).replace(
    blocks=jnp.full((B, 2), 4, jnp.int32)
  )
  tokens = run(_keys(), condition, _settings()).tokens
  assert (tokens.length > given.length).all()  # something was drawn
  of_task = sparse.visit_rank(task.codec) < first
  dense = lambda lists: np.asarray(sparse.to_coefficients(task.codec, lists))
  np.testing.assert_array_equal(
    dense(tokens)[..., of_task], dense(given)[..., of_task]
  )


def test_a_sample_depends_on_its_own_key_only(setup):
  task, _, run = setup
  condition = _condition(task).replace(blocks=jnp.full((B, 2), 4, jnp.int32))
  one = run(_keys(), condition, _settings()).tokens
  order = jnp.array([2, 0, 3, 1])
  other = run(_keys()[order], condition, _settings()).tokens
  jax.tree.map(
    np.testing.assert_array_equal, jax.tree.map(lambda x: x[order], one), other
  )


def test_a_stop_in_one_sample_does_not_stop_the_others(setup):
  task, _, run = setup
  samples = run(_keys(3), _condition(task), _settings())
  lengths = np.asarray(samples.tokens.length)
  stopped = np.asarray(samples.info["stopped"])
  # One of them had ended when another began its last chunk.
  chunk = lengths // task.plan.chunk_len
  assert stopped[lengths.argmin()] and chunk.min() < chunk.max()
  full = lengths == task.plan.max_elements
  assert (stopped | full).all()


def test_zero_temperature_ignores_the_keys(setup):
  task, _, run = setup
  condition = _condition(task)
  one, other = (
    run(_keys(seed), condition, _settings(temperature=0.0)).tokens
    for seed in (0, 1)
  )
  jax.tree.map(np.testing.assert_array_equal, one, other)
  top = run(_keys(5), condition, _settings(top_k=1)).tokens
  jax.tree.map(np.testing.assert_array_equal, one, top)


def test_changing_settings_compiles_nothing_anew(setup):
  task, _, run = setup
  run(_keys(), _condition(task), _settings())
  size = run.program._cache_size()
  run(_keys(7), _condition(task, label=2), _settings(temperature=0.5, top_k=3))
  assert run.program._cache_size() == size


def test_guidance_of_one_is_the_labelled_model(setup):
  task, state, run = setup
  condition = _condition(task, label=1)
  guided = jax.jit(functools.partial(task.sample, state, guided=True))
  plain = run(_keys(), condition, _settings()).tokens
  same = guided(_keys(), condition, _settings(guidance=1.0)).tokens
  null = guided(_keys(), condition, _settings(guidance=0.0)).tokens
  unlabelled = run(
    _keys(), _condition(task, label=task.model.num_classes), _settings()
  ).tokens
  jax.tree.map(np.testing.assert_array_equal, plain, same)
  jax.tree.map(np.testing.assert_array_equal, unlabelled, null)


def test_illegal_mass_is_that_of_the_logits(setup, drawn):
  slots, legal = drawn.slots, _legal(setup[0].codec, drawn)
  for name, allowed, counted in (
    ("channel", legal[0], slots.count_channel),
    ("position", legal[1], slots.count_element),
  ):
    mass = np.asarray(jax.nn.softmax(getattr(drawn.forced, name)))
    mass = np.where(allowed, 0, mass).sum(axis=-1)
    expected = mass.mean(axis=1, where=counted)
    # Two images are half as large: much is illegal for a random model.
    assert expected.min() > 0.1 and np.ptp(expected) > 0.01
    got = drawn.samples.info[f"illegal_{name}"]
    np.testing.assert_allclose(got, expected, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
  "bad", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}]
)
def test_settings_out_of_range_are_refused(bad):
  with pytest.raises(ValueError, match=next(iter(bad))):
    _settings(**bad)
