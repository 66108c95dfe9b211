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
  rows = [line.split() for line in text.splitlines()]
  assert ["ours,", "256", "px", "6.3912", "0.44"] in rows
  theirs = ["6.4", "6.66", "0.44", "0.56"]
  assert ["DCTransformer,", "384", "px", *theirs] in rows
  assert ["DDPM,", "256", "px", "4.89", "9.07", "0.6", "0.45"] in rows
  assert "50,000 images of 256 x 256" in text and "note: a note" in text


def test_other_conventions_are_marked():
  scores = {"fid_clean_50k": 6.0, "unofficial_frechet_adm_50k": 5.0}
  text = "\n".join(report.beside(scores, "ffhq"))
  assert "6*" in text and "not comparable" in text
  assert "5.0" not in text.splitlines()[2]
  assert report.beside(scores, "unheard of") == []


def test_reconstructions_stand_beside_reconstructions():
  found = report.compared({"rfid_adm_50k": 5.5, "psnr": 20.0}, "imagenet2012")
  assert found.columns == ("rfid",) and not found.marked
  assert found.rows[0] == ("ours", ("5.5",))
  row = ("VQGAN, f16, 1024 codes, validation, 256 px", ("7.94",))
  assert row in found.rows and "Esser" in found.sources[0]
  assert all("px" in name for name, _ in found.rows[1:])
  samples = report.compared({"fid_adm_50k": 5.5}, "imagenet2012")
  assert "rfid" not in samples.columns
  assert "f16" not in "".join(name for name, _ in samples.rows)


@pytest.mark.parametrize(
  "name, way",
  [
    ("fid_adm_50k", "lower"),
    ("unofficial_sfrechet_pytorch_fid_300", "lower"),
    ("kid_clean_5k", "lower"),
    ("fid_adm_unchecked_50k", "lower"),
    ("kid_std_clean_5k", ""),
    ("unofficial_recall_adm_20", "higher"),
    ("is_adm_50k", "higher"),
    ("unofficial_is_torch_fidelity_adm_5k", "higher"),
    ("is_torch_fidelity_std_adm_50k", ""),
    ("psnr", "higher"),
    ("bits_over_jpeg", "lower"),
    ("pixels_per_image", ""),
  ],
)
def test_every_score_says_which_way_is_better(name, way):
  assert report.better(name) == way
  text = report.table(RESULT | {"scores": {name: 1.5}})
  (line,) = [x for x in text.splitlines() if x.strip().startswith(name)]
  said = f"{way} is better".split() if way else []
  assert line.split() == [name, "1.5", *said]


def test_a_reference_of_unknown_preprocessing_is_marked():
  found = report.compared({"fid_adm_unchecked_50k": 6.4}, "lsun/bedroom")
  assert found.marked and found.rows[0][1][found.columns.index("fid")] == "6.4*"
  found = report.compared({"fid_adm_50k": 6.4}, "lsun/bedroom")
  assert not found.marked


def test_images_of_a_size_that_nobody_published_are_marked():
  scores = {"fid_adm_50k": 6.4}
  for size in (64, 128, 512):
    found = report.compared(scores, "lsun/bedroom", (size, size))
    assert found.marked
    name, cells = found.rows[0]
    assert name == f"ours, {size} px" and cells[0] == "6.4*"
  for size in ((256, 256), (288, 384)):
    found = report.compared(scores, "lsun/bedroom", size)
    assert not found.marked and found.rows[0][1][0] == "6.4"


def test_the_datasets_of_the_configs_have_their_figures():
  known = report.datasets()
  for name in ("ffhq", "imagenet2012", "lsun/bedroom", "celeb_a_hq/256"):
    assert name in known


def test_the_published_figures_are_those_of_the_papers():
  def value(dataset, metric, model, setting="", author=""):
    (row,) = [
      row
      for row in report.published(dataset)
      if row["model"] == model
      and row["setting"] == setting
      and row["source"].startswith(author)
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
  early = "segmentation to image, transformer, equal time"
  assert value("s_flckr", "nll", "VQGAN", early) == 4.57
  assert value("coco_stuff", "fid", "VQGAN", "segmentation to image") == 22.4
  assert value("coco_stuff", "fid", "CRN", "segmentation to image") == 70.4
  assert value("ffhq", "fid", "StyleGAN2", "augmented") == 3.6
  guided = "class-conditional, guided by 10"
  assert value("imagenet2012", "is", "ADM", guided) == 283.92
  given = ("imagenet2012", "sfid", "VQGAN", "class-conditional", "P. Dhariwal")
  assert value(*given) == 19.05


def test_every_table_names_a_paper():
  data = report.figures()
  assert {t["paper"] for t in data["tables"]} == set(data["papers"])
  for table in data["tables"]:
    assert table["rows"] and table["what"]
    for row in table["rows"]:
      assert row["values"] and row["dataset"]
      if {"fid", "rfid"} & {*row["values"]}:
        assert row["sides"]
