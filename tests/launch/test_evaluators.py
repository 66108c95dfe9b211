"""What a run measures of the samples that it shows of itself."""

import numpy as np

from launch import evaluators
from training import task


def test_labels_of_samples_have_no_mean():
  def sampler(state, indices):
    del state
    count = len(indices)
    return task.Samples(
      images=np.zeros((count, 4, 4, 3), np.uint8),
      sizes=np.full((count, 2), 4, np.int32),
      tokens=(),
      info={
        "label": indices % 3,
        "steps": 2 * indices,
        "history": np.zeros((count, 2, 4, 4), np.int32),
      },
    )

  shown = evaluators.Pictures(sampler, 3, 2, 1).run(None, 0)
  assert shown.scalars == {"sample/steps": 2.0}
