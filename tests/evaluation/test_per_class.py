import numpy as np
import pytest

from evaluation import manifold, moments, per_class


def test_a_missing_mode_shows_in_its_class(tmp_path):
  random = np.random.RandomState(0)
  labels = np.repeat([0, 1, 2], 60)
  real = random.randn(180, 4) + 20 * labels[:, None]
  fake = random.randn(180, 4) + 20 * labels[:, None]
  fake[labels == 1] = real[60] + 1e-3 * random.randn(60, 4)
  found = per_class.precision_recall(real, labels, fake, labels)
  assert [c.label for c in found] == [0, 1, 2]
  assert found[1].recall < 0.1 < 0.5 < found[0].recall
  direct = manifold.precision_recall(real[:60], fake[:60])
  assert (found[0].precision, found[0].recall) == (
    direct.precision,
    direct.recall,
  )
  assert (found[0].num_samples, found[0].num_reference) == (60, 60)
  path = tmp_path / "classes.png"
  per_class.figure(found, ["a", "b"], path)
  assert path.stat().st_size > 1000


def test_small_classes_are_left_out_and_labels_checked():
  x = np.random.RandomState(0).randn(20, 3)
  labels = np.array([0] * 17 + [1] * 3)
  found = per_class.precision_recall(x, labels, x, labels)
  assert [c.label for c in found] == [0]
  with pytest.raises(moments.FeatureError, match="19 labels"):
    per_class.precision_recall(x, labels[:19], x, labels)
