"""The benchmark of the codec writes its table and its pictures."""

import json

import pytest
from PIL import Image

from benchmarks import codec
from tests.dctransformer import lists


@pytest.mark.slow
def test_codec_writes_tables_and_pictures(tmp_path):
  folder, out = tmp_path / "images", tmp_path / "out"
  folder.mkdir()
  for i, (h, w) in enumerate([(64, 128), (130, 70)]):
    Image.fromarray(lists.picture(h, w, i)).save(folder / f"{i}.png")
  assert (
    codec.main([f"--images={folder}", f"--out={out}", "--qualities=80"]) == 0
  )
  written = json.loads((out / "codec.json").read_text())
  assert written["images"] == ["0.png", "1.png"]
  assert [r["block"] for r in written["results"]] == [8, 16, 32]
  for result in written["results"]:
    assert result["psnr"] > 25 and result["elements"] > 100
    assert result["jpeg_bits_per_pixel"] > 0.1
  assert (out / "codec.md").read_text().count("\n| ") == 4
  for name in ("qualities.png", "progressive.png"):
    assert min(Image.open(out / name).size) > 128


def test_codec_names_a_folder_without_images(tmp_path, capsys):
  out = tmp_path / "out"
  assert codec.main([f"--images={tmp_path}", f"--out={out}"]) == 1
  assert str(tmp_path) in capsys.readouterr().err
  assert not out.exists()
