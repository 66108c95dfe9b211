import numpy as np
import pytest

from evaluation import report

RESULT = {
  "samples": "runs/bedrooms",
  "reference": "lsun.npz",
  "num_samples": 50_000,
  "size": (256, 256),
  "preprocess": "adm",
  "weights": "6726825d" + 56 * "0",
  "scores": {"fid_adm_50k": np.float64(6.3912), "precision_adm_50k": 0.44},
  "notes": ["a note"],
}


def test_results_come_back(tmp_path):
  path = tmp_path / "new" / "r.json"
  scores = {"psnr": float("inf"), "fid_adm_50k": 6.0}
  report.write(path, RESULT | {"scores": scores})
  found = report.read(path)
  assert found["scores"] == scores
  assert found["size"] == [256, 256] and found["time"]
  with pytest.raises(ValueError, match="must say its weights"):
    report.write(path, {k: v for k, v in RESULT.items() if k != "weights"})


def test_scores_stand_beside_the_published_ones():
  text = report.table(RESULT, "lsun/bedroom")
  rows = {line.split()[0]: line.split() for line in text.splitlines()[1:]}
  assert rows["ours"] == ["ours", "6.3912", "0.44"]
  assert rows["DCTransformer"] == [
    "DCTransformer",
    "6.4",
    "6.66",
    "0.44",
    "0.56",
  ]
  assert "50,000 images of 256 x 256" in text and "note: a note" in text


def test_other_conventions_are_marked():
  scores = {"fid_clean_50k": 6.0, "unofficial_frechet_adm_50k": 5.0}
  text = "\n".join(report.beside(scores, "ffhq"))
  assert "6*" in text and "not comparable" in text
  assert "5.0" not in text.splitlines()[2]
  assert report.beside(scores, "unheard of") == []


def test_the_published_figures_are_those_of_the_papers():
  def value(dataset, metric, model, setting=""):
    (row,) = [
      row
      for row in report.published(dataset)
      if row["model"] == model
      and row["setting"] == setting
      and metric in row["values"]
    ]
    assert "arXiv" in row["source"]
    return row["values"][metric]

  assert value("ffhq", "sfid", "DCTransformer") == 9.44
  assert (
    value("open_images_v4", "fid", "DCTransformer", "colourisation") == 22.52
  )
  assert value("ade20k", "fid", "VQGAN", "segmentation to image") == 35.5
  f16 = "f16, 16384 codes, validation"
  assert value("imagenet2012", "rfid", "VQGAN", f16) == 4.98
  assert value("imagenet2012", "nll", "VQGAN", "row-major") == 4.767
  assert (
    value("s_flckr", "nll", "VQGAN", "segmentation to image, PixelSNAIL")
    == 4.64
  )


def test_every_table_names_a_paper():
  data = report.figures()
  assert {t["paper"] for t in data["tables"]} == set(data["papers"])
  for table in data["tables"]:
    assert table["rows"] and table["what"]
    for row in table["rows"]:
      assert row["values"] and row["dataset"]
