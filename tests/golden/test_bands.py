"""The losses of tiny runs stay in the bands that were recorded.

After a change that is meant to move them

    python -m tests.golden record [NAME...]

records them anew; `spread` instead of `record` measures what rounding does to
them, which the tolerances come from. Look at the difference before you commit
it.
"""

import numpy as np
import pytest

from tests.golden import bands, dctransformer, prior, sundae, vqgan

RUNS = {
  module.RUN.name: module.RUN
  for module in (dctransformer, vqgan, prior, sundae)
}
each_run = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
each_change = pytest.mark.parametrize(
  ("run", "change"),
  [(run, change) for run in RUNS.values() for change in run.changes],
  ids=lambda x: getattr(x, "name", x),
)


@each_run
def test_first_points_stay_in_their_bands(run):
  num = run.first // bands.EVERY
  first = {name: curve[:num] for name, curve in bands.read(run).items()}
  found = bands.curves(run, steps=run.first)
  assert bands.strays(run, found, first) == []
  # Rounding has not had the time to grow.
  for name, curve in first.items():
    np.testing.assert_allclose(found[name][:2], curve[:2], rtol=1e-3)


@pytest.mark.slow
@each_run
def test_curves_stay_in_their_bands(run):
  assert bands.strays(run, bands.curves(run), bands.read(run)) == []


@pytest.mark.slow
@each_run
def test_bands_have_room_for_rounding(run):
  found = bands.curves(run, rounded=1)
  assert bands.strays(run, found, bands.read(run)) == []


@pytest.mark.slow
@each_change
def test_bands_notice(run, change):
  found = bands.curves(run, **run.changes[change])
  assert bands.strays(run, found, bands.read(run))
