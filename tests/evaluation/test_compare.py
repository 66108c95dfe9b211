import numpy as np
import pytest

from evaluation import (
  compare,
  features,
  frechet,
  image_sets,
  inception_score,
  reference,
)
from tests.evaluation import tiny_network

RANDOM = np.random.RandomState(0)
IMAGES = RANDOM.randint(0, 256, (60, 8, 8, 3), np.uint8)
OTHERS = RANDOM.randint(30, 200, (50, 8, 8, 3), np.uint8)


def extract(images, net):
  return features.extract(image_sets.from_array(images), net, batch=64)


def test_scores_carry_what_decides_them_in_their_names():
  net = tiny_network.make(weights="6726825d")
  samples, real = extract(OTHERS, net), extract(IMAGES, net)
  against = reference.of(real, net, dataset="noise")
  found, notes = compare.scores(samples, net, against, against.features)
  assert set(found) == {
    f"{name}_adm_50"
    for name in (
      "fid",
      "sfid",
      "is",
      "kid",
      "kid_std",
      "precision",
      "recall",
      "density",
      "coverage",
    )
  }
  direct = frechet.distance(samples.moments["pool"], real.moments["pool"])
  assert found["fid_adm_50"] == direct
  assert any("not comparable" in note for note in notes)
  assert any("60 reference images, not 10000" in note for note in notes)
  assert any("subsets of 50, not 1000" in note for note in notes)


def test_a_part_of_the_reference_is_noted_as_one():
  net = tiny_network.make(weights="6726825d")
  samples = extract(OTHERS, net)
  part = features.extract(image_sets.from_array(IMAGES), net, keep_num=20)
  against = reference.of(part, net, dataset="noise")
  _, notes = compare.scores(samples, net, against, against.features)
  said = "20 of 60 reference images, evenly spaced"
  for name in ("kid", "precision_recall", "density_coverage"):
    assert any(n.startswith(f"{name}: ") and said in n for n in notes), name
  assert compare.looked_at(against, 60) == []
  assert compare.looked_at(None, 20) == []


def test_random_weights_never_give_a_fid():
  net = tiny_network.make()
  samples = extract(IMAGES, net)
  against = reference.of(samples, net, dataset="noise")
  found, notes = compare.scores(samples, net, against, against.features)
  assert all(name.startswith("unofficial_") for name in found)
  assert not any("fid" in name for name in found)
  assert found["unofficial_frechet_adm_60"] < 1e-6
  assert found["unofficial_precision_adm_60"] == 1
  assert any("random weights (random:0)" in note for note in notes)
  other = tiny_network.make(weights="abcdef")
  assert "unofficial" in compare.qualified("fid", other, 50_000)
  assert any("not the public ones" in n for n in compare.general_notes(other))


def test_the_number_of_samples_is_in_the_name():
  net = tiny_network.make(weights="6726825d", mode="clean")
  assert compare.qualified("fid", net, 50_000) == "fid_clean_50k"
  assert compare.qualified("is", net, 1234) == "is_clean_1234"


def test_what_the_reference_does_not_allow_is_noted():
  net = tiny_network.make(weights="6726825d")
  samples = extract(OTHERS, net)
  full = reference.of(samples, net, dataset="noise")
  poor = reference.Statistics(
    "poor", full.pool, None, None, False, None, "pytorch-fid"
  )
  found, notes = compare.scores(samples, net, poor)
  # Nobody knows how pytorch-fid's file was made.
  assert set(found) == {"fid_adm_unchecked_50", "is_adm_50"}
  assert any("no spatial statistics" in note for note in notes)
  assert any("neither images nor features" in note for note in notes)
  found, _ = compare.scores(samples, net, None)
  assert set(found) == {"is_adm_50"}


def test_few_samples_are_noted_as_a_bias():
  net = tiny_network.make(weights="6726825d")
  samples = extract(OTHERS[:5], net)
  against = reference.of(extract(IMAGES, net), net, dataset="noise")
  _, notes = compare.scores(samples, net, against, None, ["fid"])
  assert any("set of samples has 5 examples for 6" in note for note in notes)
  assert any("biased upwards" in note for note in notes)


def test_torch_fidelitys_inception_score_is_had_by_name():
  net = tiny_network.make(weights="6726825d")
  samples = extract(OTHERS, net)
  found, _ = compare.scores(samples, net, None, None, ["is_torch_fidelity"])
  mean, std = inception_score.torch_fidelity(samples.kept["logits"])
  assert found == {
    "is_torch_fidelity_adm_50": mean,
    "is_torch_fidelity_std_adm_50": std,
  }
  assert mean != inception_score.adm(samples.kept["logits"])
  few = extract(OTHERS[:9], net)
  found, notes = compare.scores(few, net, None, None, ["is_torch_fidelity"])
  assert not found and "9 samples do not make 10 splits" in notes[0]


def test_unknown_metrics_are_named():
  net = tiny_network.make()
  with pytest.raises(ValueError, match="'fidelity' is not one of fid, sfid"):
    compare.scores(extract(OTHERS, net), net, None, None, ["fidelity"])
