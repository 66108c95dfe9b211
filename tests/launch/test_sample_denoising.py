"""launch.sample of SUNDAE: steps, inpainting, larger sizes, animations."""

import numpy as np
import pytest
from PIL import Image

from launch import denoising_flags, errors, sample, sample_flags
from tests.dctransformer import tiny
from tests.launch import sundae_run


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """Return the directory of a model of 8 x 8 shades, trained for two steps."""
  return sundae_run.trained(tmp_path_factory.mktemp("run"))


@pytest.fixture
def picture(tmp_path):
  """Return the path and the shades [8, 8] of a grey picture."""
  shades = tiny.make_images(1, seed=3, side=8)[0, ..., 0]
  path = tmp_path / "picture.png"
  Image.fromarray(shades).save(path)
  return path, shades


def _draw(workdir, out, *options):
  command = [f"--workdir={workdir}", f"--out={out}", "--batch=4", *options]
  assert sample.main(command) == 0
  with np.load(out / "samples.npz") as archive:
    return dict(archive)


def test_steps_are_reported_and_samples_do_not_depend_on_their_number(
  workdir, tmp_path
):
  few = _draw(workdir, tmp_path / "out", "--num_samples=3", "--steps=3")
  many = _draw(workdir, tmp_path / "out", "--num_samples=6", "--steps=3")
  assert many["arr_0"].shape == (6, 8, 8, 3)
  np.testing.assert_array_equal(many["arr_0"][:3], few["arr_0"])
  np.testing.assert_array_equal(many["labels"], np.arange(6))
  assert many["steps"].tolist() == [3] * 6


def test_inpainting_keeps_what_is_black_in_the_mask(workdir, picture, tmp_path):
  path, shades = picture
  mask = np.zeros((8, 8), np.uint8)
  mask[2:5, 1:7] = 255
  Image.fromarray(mask).save(tmp_path / "mask.png")
  asked = [
    f"--inpaint={path}",
    f"--mask={tmp_path / 'mask.png'}",
    "--results=3",
    "--animate=gif",
  ]
  drawn = _draw(workdir, tmp_path / "out", *asked, "--argmax")
  assert drawn["arr_0"].shape == (3, 8, 8, 3)
  assert drawn["labels"].tolist() == [24] * 3  # the null class
  for result in drawn["arr_0"]:
    np.testing.assert_array_equal(
      result[mask == 0], np.repeat(shades[mask == 0][:, None], 3, axis=1)
    )
  # What is likeliest may be the same whatever was drawn before.
  free = _draw(workdir, tmp_path / "free", *asked, "--no-argmax")
  holes = free["arr_0"][:, mask > 0]
  assert (holes[0] != holes[1]).any() and (holes[1] != holes[2]).any()
  assert (tmp_path / "out" / "given.png").is_file()
  with Image.open(tmp_path / "out" / "denoising.gif") as shown:
    assert shown.n_frames == 7  # noise, five steps and argmax


def test_compositing_puts_back_what_the_model_cannot_draw(workdir, tmp_path):
  # The model draws greys; of the coloured picture the left half is known.
  rng = np.random.default_rng(0)
  colours = rng.integers(0, 256, (8, 8, 3), np.uint8)
  Image.fromarray(colours).save(tmp_path / "picture.png")
  options = [f"--inpaint={tmp_path / 'picture.png'}", "--mask=0,4,8,4"]
  plain = _draw(workdir, tmp_path / "plain", *options)["arr_0"]
  put_back = _draw(workdir, tmp_path / "back", *options, "--composite")["arr_0"]
  assert (plain[:, :, :4] != colours[:, :4]).any()
  np.testing.assert_array_equal(
    put_back[:, :, :4], np.stack([colours[:, :4]] * 4)
  )
  np.testing.assert_array_equal(put_back[:, :, 4:], plain[:, :, 4:])


def test_larger_size_surrounds_the_picture(workdir, picture, tmp_path):
  path, shades = picture
  drawn = _draw(
    workdir,
    tmp_path / "out",
    f"--inpaint={path}",
    "--size=12x8",
    "--results=2",
    "--labels=3",
    "--steps=2",
    "--composite",
  )
  assert drawn["arr_0"].shape == (2, 12, 8, 3)
  np.testing.assert_array_equal(drawn["arr_0"][0, 2:10, :, 0], shades)
  assert drawn["labels"].tolist() == [3, 3]


def _lying(path, upright):
  """Save a picture as a camera does that was turned by a quarter."""
  exif = Image.Exif()
  exif[0x0112] = 6  # to be turned clockwise
  stored = Image.fromarray(upright).rotate(90, expand=True)
  stored.save(path, exif=exif, quality=95)
  return path


def test_results_do_not_depend_on_their_number(workdir, picture, tmp_path):
  command = [f"--workdir={workdir}", f"--out={tmp_path / 'out'}", "--steps=2"]
  command += [f"--inpaint={picture[0]}", "--mask=2,2,4,4"]
  drawn = {}
  for results in (1, 9, 2):  # 9: more than a batch; all into one folder
    assert sample.main([*command, f"--results={results}"]) == 0
    with np.load(tmp_path / "out" / "samples.npz") as archive:
      drawn[results] = archive["arr_0"]
    assert len(drawn[results]) == results
  np.testing.assert_array_equal(drawn[9][:1], drawn[1])
  np.testing.assert_array_equal(drawn[9][:2], drawn[2])


def test_photograph_is_inpainted_upright(workdir, tmp_path):
  upright = np.zeros((16, 8), np.uint8)
  upright[:8] = 200
  path = _lying(tmp_path / "photograph.jpg", upright)
  mask = np.zeros((16, 8), np.uint8)
  mask[6:, :4] = 255  # the model sees rows 4 to 11
  for name in ("mask.png", "mask.jpg"):
    Image.fromarray(mask).save(tmp_path / name)
  _lying(tmp_path / "lying.jpg", mask)
  for name in ("mask.png", "mask.jpg", "lying.jpg"):
    drawn = _draw(
      workdir,
      tmp_path / name.replace(".", "-"),
      f"--inpaint={path}",
      f"--mask={tmp_path / name}",
      "--results=2",
    )
    for result in drawn["arr_0"].astype(int):
      kept = result[mask[4:12] == 0]
      expected = upright[4:12][mask[4:12] == 0]
      assert abs(kept - expected[:, None]).max() < 10


def test_photograph_as_a_condition_is_upright(tmp_path):
  rows = np.zeros((16, 8), np.uint8)
  rows[:8] = 200
  grey = sample_flags.read_condition(_lying(tmp_path / "grey.jpg", rows))
  assert grey.shape == (16, 8) and abs(grey - rows.astype(int)).max() < 10
  colours = np.stack([rows, rows // 2, 0 * rows], axis=-1)
  read = sample_flags.read_condition(_lying(tmp_path / "photo.jpg", colours))
  assert read.shape == (16, 8, 3) and (read[:7, :, 0] > 150).all()
  assert (read[9:, :, 0] < 50).all()


def test_picture_lies_where_it_is_asked_to(workdir, picture, tmp_path):
  path, shades = picture
  options = [f"--inpaint={path}", "--size=8x12", "--results=2", "--steps=2"]
  drawn = _draw(workdir, tmp_path / "out", *options, "--at=0,4")
  for result in drawn["arr_0"]:
    np.testing.assert_array_equal(result[:, 4:, 0], shades)
  assert (drawn["arr_0"][0, :, :4] != drawn["arr_0"][1, :, :4]).any()


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (["--upsample=x.png"], "--upsample means nothing to task sundae"),
    (["--mask=0,0,2,2"], "--mask belongs to --inpaint"),
    (["--inpaint=PICTURE"], "needs --mask"),
    (["--inpaint=PICTURE", "--mask=0,0,2,2", "--num_samples=9"], "--results"),
    (["--inpaint=PICTURE", "--mask=0,0,2,2", "--guidance=2"], "null class"),
    (["--guidance=2", "--labels=24"], "null class"),
    (["--size=8x12", "--at=0,4"], "--at belongs to --inpaint"),
    (["--inpaint=PICTURE", "--mask=0,0,2,2", "--at=0,4"], "a larger --size"),
    (["--inpaint=PICTURE", "--size=8x12", "--at=0,5"], "from 0,0 to 0,4"),
    (["--inpaint=PICTURE", "--size=8x12", "--at=4"], "'4' must be TOP,LEFT"),
    (["--inpaint=PICTURE", "--size=8x8"], "leaves nothing to make"),
    (["--inpaint=PICTURE", "--mask=0,0,9,2"], "must lie within"),
    (["--inpaint=PICTURE", "--mask=none.png"], "no readable picture"),
    (["--size=12x8", "--animate=gif"], "leave out --animate"),
    (["--size=4x8"], "from 8x8 on"),
    (["--proportion=2"], "proportion"),
    (["--steps=0"], "steps 0"),
    (["--steps=9999999999"], "below 2**31"),
    (["--temperature=nan"], "temperature"),
    (["--labels=25"], "label 25 must be between 0 and 23, or 24"),
  ],
)
def test_bad_requests_end_in_one_line(
  workdir, picture, tmp_path, capsys, options, message
):
  options = [x.replace("PICTURE", str(picture[0])) for x in options]
  out = tmp_path / "out"
  assert sample.main([f"--workdir={workdir}", f"--out={out}", *options]) != 0
  error = capsys.readouterr().err.strip()
  assert message in error and "\n" not in error
  assert not out.exists()


@pytest.mark.parametrize(
  "mode, black, white",
  [
    ("L", 100, 200),
    ("1", 0, 1),
    ("P", 3, 9),
    ("RGB", (90, 90, 90), (255, 255, 255)),
    ("RGBA", (255, 255, 255, 0), (255, 255, 255, 255)),
    ("LA", (255, 90), (255, 255)),
    ("I;16", 20_000, 60_000),
    ("F", 0.2, 1.0),
  ],
)
def test_mask_is_white_whatever_it_is_stored_as(mode, black, white, tmp_path):
  mask = Image.new(mode, (6, 4), black)
  if mode == "P":
    mask.putpalette([x for i in range(256) for x in [25 * min(i, 10)] * 3])
  mask.putpixel((5, 1), white)
  path = tmp_path / ("mask.tiff" if mode == "F" else "mask.png")
  mask.save(path)
  known = denoising_flags.read_mask(str(path), (4, 6))
  assert not known[1, 5] and known.sum() == 23


def test_mask_of_another_size_is_refused(tmp_path):
  Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "mask.png")
  with pytest.raises(errors.CommandError, match="has 4x4 pixels"):
    denoising_flags.read_mask(str(tmp_path / "mask.png"), (8, 8))
