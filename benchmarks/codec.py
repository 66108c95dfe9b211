"""The codec on photographs: quality, list length, bits, and pictures.

    python -m benchmarks.codec --images=FOLDER --out=DIR

sends every image of a folder through blocks of 8, 16 and 32 at several
qualities and writes `codec.md`, `codec.json`, `qualities.png` (a detail at
each setting, twice as large) and `progressive.png` (decodes of
growing prefixes of the list).

What the columns mean: PSNR over RGB, mean of the images; "elements", mean
length of the list; "JPEG", Pillow's baseline codec at the same quality, 4:2:0,
with optimised Huffman tables, bits after the start-of-scan header; "entropy",
what an ideal coder would spend that knows the distribution of each channel
over this folder and takes all cells, zeros included, as independent (the
distributions themselves are free).
"""

import argparse
import io
import json
import pathlib
import sys

import jax
import numpy as np
from PIL import Image, ImageDraw

from data import decoding
from dctransformer import arrays, dct, frame, sparse
from evaluation import jpeg

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_DETAIL = 128  # side of the detail on the sheet, pixels; drawn twice as large


def main(argv: list[str] | None = None) -> int:
  """Run the benchmark; returns the exit status."""
  parser = argparse.ArgumentParser(prog="benchmarks.codec")
  parser.add_argument("--images", required=True, help="folder of images")
  parser.add_argument("--out", required=True, help="folder for the results")
  parser.add_argument("--long_side", type=int, help="resize to, in pixels")
  parser.add_argument(
    "--qualities", default="20,35,50,75,90", help="JPEG qualities, by commas"
  )
  args = parser.parse_args(argv)
  qualities = [int(quality) for quality in args.qualities.split(",")]
  paths = find(args.images)
  if not paths:
    print(f"no images in {args.images}; expected {_SUFFIXES}", file=sys.stderr)
    return 1
  images = [_read(path, args.long_side) for path in paths]
  results = []
  for block in dct.BLOCKS:
    for quality in qualities:
      results.append(_measure(images, block, quality))
      print(_line(results[-1]), flush=True)
  out = pathlib.Path(args.out)
  out.mkdir(parents=True, exist_ok=True)
  names = [path.name for path in paths]
  (out / "codec.json").write_text(
    json.dumps({"images": names, "results": results}, indent=1)
  )
  (out / "codec.md").write_text(_table(results, len(images)))
  chosen = images[len(images) // 2]
  _sheet_of_qualities(chosen, qualities).save(out / "qualities.png")
  _sheet_of_prefixes(images).save(out / "progressive.png")
  print(f"wrote {out}/codec.md, codec.json, qualities.png, progressive.png")
  return 0


def codec_for(image: np.ndarray, block: int, quality: int) -> dct.Codec:
  """Build the codec whose canvas is the image, uint8 [h, w, 3]."""
  h, w = image.shape[:2]
  return dct.Codec(block, quality, h // block, w // block)


def find(folder: str) -> list[pathlib.Path]:
  """List the images of a folder, sorted by name."""
  return sorted(
    path
    for path in pathlib.Path(folder).glob("*")
    if path.suffix.lower() in _SUFFIXES
  )


def _read(path, long_side):
  """Crop to multiples of the largest unit, so that all blocks see the same."""
  image = decoding.to_rgb(path.read_bytes())
  framing = frame.Frame(long_side, "crop", 2 * max(dct.BLOCKS))
  return arrays.apply_frame(framing, image)[0]


def _measure(images, block, quality):
  rows = []
  histograms = {}
  pixels = 0
  for image in images:
    codec = codec_for(image, block, quality)
    coefficients = np.asarray(_forward(codec, image))
    theirs, bits = _jpeg(image, quality)
    pixels += image.shape[0] * image.shape[1]
    rows.append(
      {
        "psnr": _psnr(image, _backward(codec, coefficients)),
        "jpeg_psnr": _psnr(image, theirs),
        "elements": int(np.count_nonzero(coefficients)),
        "jpeg_bits": bits,
        "largest": int(np.abs(coefficients).max()),
      }
    )
    _count(codec, coefficients, histograms)
  mean = {name: float(np.mean([r[name] for r in rows])) for name in rows[0]}
  entropy = sum(_bits(histogram) for histogram in histograms.values())
  return {
    "block": block,
    "quality": quality,
    "psnr": mean["psnr"],
    "jpeg_psnr": mean["jpeg_psnr"],
    "elements": mean["elements"],
    "least_elements": min(r["elements"] for r in rows),
    "most_elements": max(r["elements"] for r in rows),
    "largest_value": max(r["largest"] for r in rows),
    "jpeg_bits_per_pixel": sum(r["jpeg_bits"] for r in rows) / pixels,
    "entropy_bits_per_pixel": entropy / pixels,
    "per_image": rows,
  }


@jax.jit(static_argnums=0)
def _forward(codec, image):
  return dct.to_coefficients(codec, image)


@jax.jit(static_argnums=0)
def _backward(codec, coefficients):
  return dct.to_image(codec, coefficients)


def _jpeg(image, quality):
  buffer = io.BytesIO()
  Image.fromarray(image).save(
    buffer, "JPEG", quality=quality, subsampling="4:2:0"
  )
  return np.asarray(Image.open(buffer)), jpeg.scan_bits(image, quality)


def _psnr(image, other):
  error = np.mean((image.astype(np.float64) - np.asarray(other)) ** 2)
  return float(10 * np.log10(255**2 / error))


def _count(codec, coefficients, histograms):
  """Adds the values on each channel's cells to its histogram."""
  for channel in range(codec.num_channels):
    step = 1 if channel < codec.block**2 else 2
    cells = coefficients[::step, ::step, channel]
    for value, count in zip(*np.unique(cells, return_counts=True)):
      histogram = histograms.setdefault(channel, {})
      histogram[value] = histogram.get(value, 0) + int(count)


def _bits(histogram):
  counts = np.array(list(histogram.values()), np.float64)
  return float(-(counts * np.log2(counts / counts.sum())).sum())


_COLUMNS = (
  "block",
  "quality",
  "PSNR",
  "JPEG PSNR",
  "elements",
  "least",
  "most",
  "largest value",
  "JPEG bits/px",
  "entropy bits/px",
)


def _line(r):
  return (
    f"| {r['block']} | {r['quality']} | {r['psnr']:.2f} |"
    f" {r['jpeg_psnr']:.2f} | {r['elements']:.0f} | {r['least_elements']} |"
    f" {r['most_elements']} | {r['largest_value']} |"
    f" {r['jpeg_bits_per_pixel']:.3f} | {r['entropy_bits_per_pixel']:.3f} |"
  )


def _table(results, count):
  head = f"{count} images.\n\n| {' | '.join(_COLUMNS)} |\n"
  head += "|" + "---|" * len(_COLUMNS) + "\n"
  return head + "\n".join(_line(r) for r in results) + "\n"


def _sheet_of_qualities(image, qualities):
  """Blocks down, qualities across, beside the original: one detail."""
  top, left = (max(side - _DETAIL, 0) // 2 for side in image.shape[:2])
  detail = np.s_[top : top + _DETAIL, left : left + _DETAIL]
  rows = []
  for block in dct.BLOCKS:
    row = [("original", image[detail])]
    for quality in qualities:
      codec = codec_for(image, block, quality)
      decoded = np.asarray(_backward(codec, _forward(codec, image)))
      name = f"B {block} q {quality}: {_psnr(image, decoded):.1f} dB"
      row.append((name, decoded[detail]))
    rows.append([(n, p.repeat(2, 0).repeat(2, 1)) for n, p in row])
  return _sheet(rows)


def _sheet_of_prefixes(images):
  """Decodes of half of band 0, of bands 0, 0-1, ...; a row an image."""
  rows = []
  for image in images[:: max(len(images) // 5, 1)][:5]:
    codec = codec_for(image, 8, 75)
    elements = _list(codec, _forward(codec, image))
    total = int(elements.total)
    bands = _bands_of(codec, elements)
    ends = [int(np.sum(bands <= k)) for k in range(bands.max() + 1)]
    row = []
    for length in (ends[0] // 2, *ends):
      picture = Image.fromarray(np.asarray(_decode(codec, elements, length)))
      picture.thumbnail((384, 384), Image.Resampling.LANCZOS)
      row.append((f"{length} of {total} elements", np.asarray(picture)))
    rows.append(row)
  return _sheet(rows)


def _bands_of(codec, elements):
  """Band of every element of a list, [total]."""
  return sparse.band(codec)[elements.channel[: elements.total]]


@jax.jit(static_argnums=0)
def _list(codec, coefficients):
  return sparse.to_elements(codec, coefficients, codec.max_total)


@jax.jit(static_argnums=0)
def _decode(codec, elements, length):
  return dct.to_image(codec, sparse.to_coefficients(codec, elements, length))


def _sheet(rows, margin=4, caption=14):
  """Pastes captioned pictures on white, each row as high as its highest."""
  width = max(sum(p.shape[1] + margin for _, p in row) for row in rows)
  heights = [max(p.shape[0] for _, p in row) + caption + margin for row in rows]
  sheet = Image.new("RGB", (width + margin, sum(heights) + margin), "white")
  draw = ImageDraw.Draw(sheet)
  y = margin
  for row, height in zip(rows, heights):
    x = margin
    for name, picture in row:
      draw.text((x, y), name, fill="black")
      sheet.paste(Image.fromarray(picture), (x, y + caption))
      x += picture.shape[1] + margin
    y += height
  return sheet


if __name__ == "__main__":
  sys.exit(main())
