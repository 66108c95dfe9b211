"""launch.sample with a given prefix: the picture's own list comes back."""

import numpy as np
import pytest
from PIL import Image

from dctransformer import arrays
from launch import runs, sample
from tests.dctransformer import tiny
from tests.launch import dct_run

FIELDS = ("channel", "position", "value")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """Return the directory of a luma-first DCTransformer."""
  overrides = [
    ("model.order", "luma_first"),
    ("model.max_chunks", "8"),
    ("train.num_steps", "1"),
    ("optimizer.warmup_steps", "0"),
    ("train.checkpoint_every", "1"),
  ]
  return dct_run.trained(tmp_path_factory.mktemp("run"), overrides)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
  """Return (the path of a picture, its pixels)."""
  path = tmp_path_factory.mktemp("given") / "picture.png"
  pixels = tiny.make_images(1, seed=5)
  Image.fromarray(pixels[0]).save(path)
  return path, pixels


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["complete", "colorize"])
def test_the_pictures_own_list_is_kept(workdir, picture, tmp_path, kind):
  path, pixels = picture
  task = runs.open_run(workdir).task
  own = arrays.encode_arrays(
    task.codec, pixels, max_elements=task.plan.max_elements
  )
  length = int(own["length"][0])
  luma = own["channel"][0, :length] < task.codec.block**2
  if kind == "complete":
    options, kept = [f"--complete={path}", "--fraction=0.5"], length // 2
  else:
    options, kept = [f"--colorize={path}"], int(luma.sum())
    assert luma[:kept].all()  # luma comes first
  # Across a boundary of chunks, with something left to draw.
  assert task.plan.chunk_len < kept < length
  command = [f"--workdir={workdir}", f"--out={tmp_path}", *options]
  assert sample.main([*command, "--batch=2", "--num_samples=3"]) == 0
  drawn = sample.load(tmp_path)
  for name in FIELDS:
    lists = drawn[f"tokens.{name}"]
    assert len(lists) == 3
    given = np.broadcast_to(own[name][0, :kept], (3, kept))
    np.testing.assert_array_equal(lists[:, :kept], given, err_msg=name)
  # It goes on from there, in different ways.
  assert (drawn["tokens.length"] >= kept).all()
  assert len({x.tobytes() for x in drawn["image"]}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["upsample", "colorize"])
def test_what_a_flat_grey_picture_lacks_is_not_added(workdir, tmp_path, kind):
  path = tmp_path / "grey.png"
  Image.new("RGB", (32, 32), (90, 90, 90)).save(path)
  command = [f"--workdir={workdir}", f"--out={tmp_path / 'out'}"]
  command += [f"--{kind}={path}", "--batch=8", "--num_samples=8"]
  assert sample.main(command) == 0
  drawn = sample.load(tmp_path / "out")
  # 16 luma DCs are given; a sample may stop at once, but not all do.
  assert (drawn["tokens.length"] >= 16).all()
  channel = drawn["tokens.channel"]
  places = np.arange(channel.shape[1])
  added = (places >= 16) & (places < drawn["tokens.length"][:, None])
  assert added.any()
  assert (channel[added] >= {"upsample": 1, "colorize": 64}[kind]).all()
