"""The adapter of DCTransformer: what it asks of memory."""

import pytest

from launch import datasets
from launch.adapters import dctransformer
from tests.launch import labelled


@pytest.mark.parametrize("rows, most", [("4", 128), ("96", 50)])
def test_batches_to_measure_stay_below_256_mib(
  tmp_path, monkeypatch, rows, most
):
  fields = {
    "model.rows": rows,
    "model.cols": rows,
    "data.resize": "32",
    "eval.batch_size": "128",
  }
  config = labelled.config("dct_imagenet", tmp_path, **fields)
  asked = []
  monkeypatch.setattr(
    datasets.pipeline(config),
    "eval_batches",
    lambda *_, batch_size, limit: asked.append(batch_size),
  )
  source = datasets.open_source(config, "train")
  datasets.measure_batches(config, dctransformer, source, 6)
  assert asked == [most]
  total = dctransformer.make_codec(config).max_total
  assert asked[0] * 6 * total <= 2**28
