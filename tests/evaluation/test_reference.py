import json
import zipfile

import numpy as np
import pytest

from evaluation import features, image_sets, reference
from tests.evaluation import tiny_network

IMAGES = np.random.RandomState(0).randint(0, 256, (30, 8, 8, 3), np.uint8)


def make(**options):
  net = tiny_network.make(**options)
  found = features.extract(image_sets.from_array(IMAGES), net, batch=16)
  return reference.of(found, net, dataset="noise", extra={"revision": "abc"})


def write_adm(path, images=True, **changes):
  draw = np.random.RandomState(1).randn(50, 5)
  arrays = {
    "mu": draw.mean(0),
    "sigma": np.cov(draw, rowvar=False),
    "mu_s": draw[:, :3].mean(0),
    "sigma_s": np.cov(draw[:, :3], rowvar=False),
    **changes,
  }
  if images:
    arrays.setdefault("arr_0", IMAGES)
  np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
  return path


def test_our_files_come_back_and_other_tools_read_them(tmp_path):
  made = make()
  path = tmp_path / "new" / "s.npz"
  reference.save(path, made)
  found = reference.load(path)
  assert found.origin == "ours" and found.notes == ()
  assert found.metadata == made.metadata
  assert found.pool.count == 30
  np.testing.assert_array_equal(found.pool.covariance, made.pool.covariance)
  np.testing.assert_array_equal(found.spatial.mean, made.spatial.mean)
  np.testing.assert_array_equal(found.features, made.features)
  # pytorch-fid and ADM's evaluator read just these.
  with np.load(path) as file:
    assert {"mu", "sigma", "mu_s", "sigma_s"} <= set(file.files)
    assert file["mu"].shape == (6,) and file["sigma"].shape == (6, 6)
  assert reference.is_statistics(path)
  assert [p.name for p in path.parent.iterdir()] == ["s.npz"]


def test_places_of_the_kept_features_are_known(tmp_path):
  net = tiny_network.make()
  images = image_sets.from_array(IMAGES)
  whole = features.extract(images, net, batch=16).kept["pool"]
  found = features.extract(images, net, batch=16, keep_num=4)
  path = tmp_path / "s.npz"
  reference.save(path, reference.of(found, net, dataset="noise"))
  read = reference.load(path)
  assert read.metadata["chosen"] == read.chosen == "evenly spaced"
  np.testing.assert_array_equal(read.places, [0, 7, 15, 22])
  np.testing.assert_allclose(read.features, whole[read.places], atol=1e-6)
  # Files from before said nothing, and held the first ones.
  with np.load(path) as file:
    arrays = dict(file)
  metadata = json.loads(str(arrays["metadata"]))
  del metadata["chosen"]
  np.savez(path, **arrays | {"metadata": np.array(json.dumps(metadata))})
  old = reference.load(path)
  assert old.chosen == "the first ones"
  np.testing.assert_array_equal(old.places, [0, 1, 2, 3])
  adm = reference.load(write_adm(tmp_path / "adm.npz"))
  with pytest.raises(reference.StatisticsError, match="no features"):
    _ = adm.places


def test_images_are_kept_for_adms_evaluator(tmp_path):
  path = tmp_path / "s.npz"
  reference.save(path, make(), image_sets.from_array(IMAGES).take(7))
  found = reference.load(path)
  assert found.has_images and found.features is not None
  with zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as array:
    # Its reader streams this version only.
    assert np.lib.format.read_magic(array) == (1, 0)
    shape, fortran, kind = np.lib.format.read_array_header_1_0(array)
    assert (shape, fortran, kind) == ((7, 8, 8, 3), False, np.uint8)
  with np.load(path, allow_pickle=False) as file:
    np.testing.assert_array_equal(file["arr_0"], IMAGES[:7])
    np.testing.assert_array_equal(file["mu"], found.pool.mean)


def test_metadata_says_what_decides_the_numbers():
  metadata = make().metadata
  assert set(reference.REQUIRED) <= set(metadata)
  assert metadata["size"] == [8, 8] and metadata["count"] == 30
  assert len(metadata["digest"]) == 64 and metadata["revision"] == "abc"


def test_files_of_other_tools_are_read(tmp_path):
  adm = reference.load(write_adm(tmp_path / "adm.npz"))
  assert (adm.origin, adm.has_images, adm.metadata) == ("adm", True, None)
  assert adm.size == (8, 8)
  assert adm.notes[0].endswith(": weights, count are taken on trust")
  fid = write_adm(tmp_path / "f.npz", False, mu_s=None, sigma_s=None)
  fid = reference.load(fid)
  assert (fid.origin, fid.spatial, fid.size) == ("pytorch-fid", None, None)
  assert "preprocess, weights, size, count are taken" in fid.notes[0]
  assert "not comparable with adm" in fid.notes[0]


def test_what_an_adm_file_shows_has_to_fit(tmp_path):
  ours = lambda **options: make(weights="6726825d", **options)
  adm = reference.load(write_adm(tmp_path / "adm.npz"))
  reference.check_comparable(ours(), adm, official=True)
  error = reference.StatisticsError
  with pytest.raises(error, match="preprocess is 'clean' in one and 'adm'"):
    reference.check_comparable(ours(mode="clean"), adm, official=True)
  with pytest.raises(error, match="with preprocess adm, not clean"):
    net = tiny_network.make(weights="6726825d", mode="clean")
    reference.check_made_with(adm, net)
  path = write_adm(tmp_path / "b.npz", arr_0=np.zeros((3, 8, 4, 3), np.uint8))
  other = reference.load(path)
  with pytest.raises(error, match=r"size is \[8, 8\] in one and \[8, 4\]"):
    reference.check_comparable(ours(), other, official=True)
  # Without images nothing shows a size.
  bare = reference.load(write_adm(tmp_path / "c.npz", images=False))
  reference.check_comparable(ours(), bare, official=True)
  path = write_adm(tmp_path / "d.npz", arr_0=np.zeros(3, np.uint8))
  with pytest.raises(error, match="no images"):
    reference.load(path)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"weights": "random:1"}, "weights is 'random:0' in one"),
    ({"mode": "clean"}, "preprocess is 'adm' in one and 'clean'"),
  ],
)
def test_sets_made_differently_are_refused(change, message):
  with pytest.raises(reference.StatisticsError, match=message):
    reference.check_comparable(make(), make(**change), official=False)
  reference.check_comparable(make(), make(), official=False)


def test_random_weights_do_not_mix_with_other_tools_files(tmp_path):
  adm = reference.load(write_adm(tmp_path / "adm.npz"))
  with pytest.raises(reference.StatisticsError, match="public weights"):
    reference.check_comparable(make(), adm, official=False)
  reference.check_comparable(make(weights="6726825d"), adm, official=True)


def test_broken_files_are_named(tmp_path):
  error = reference.StatisticsError
  with pytest.raises(error, match="absent"):
    reference.load(tmp_path / "no.npz")
  path = write_adm(tmp_path / "a.npz")
  path.write_bytes(path.read_bytes()[:300])
  with pytest.raises(error, match="cannot be read"):
    reference.load(path)
  np.savez(path, arr_0=IMAGES)
  with pytest.raises(error, match="no mu and sigma"):
    reference.load(path)
  assert not reference.is_statistics(path)
  with pytest.raises(error, match="not finite"):
    reference.load(write_adm(path, mu=np.full(5, np.nan)))
  with pytest.raises(error, match="not symmetric"):
    reference.load(write_adm(path, sigma=np.triu(np.ones((5, 5)))))
  with pytest.raises(error, match=r"sigma \(4, 4\)"):
    reference.load(write_adm(path, sigma=np.eye(4)))
  with pytest.raises(error, match="metadata has no digest"):
    text = json.dumps(dict.fromkeys(reference.REQUIRED[2:]) | {"dataset": "x"})
    reference.load(write_adm(path, metadata=np.array(text)))
