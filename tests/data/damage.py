"""Image files of every kind that people have, sound and damaged."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

H, W = 20, 28


def picture(seed: int = 0) -> np.ndarray:
  """A smooth picture, uint8 [20, 28, 3]."""
  rng = np.random.default_rng(seed)
  small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
  return np.asarray(small.resize((W, H), Image.BICUBIC))


def encoded(image, kind="PNG", mode=None, **options) -> bytes:
  file = io.BytesIO()
  image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
  image = image.convert(mode) if mode else image
  image.save(file, kind, **options)
  return file.getvalue()


def sound() -> dict[str, bytes]:
  """Readable files by name; all but `one_pixel` show `picture()`."""
  image = picture()
  grey = Image.fromarray(image).convert("L")
  frames = [Image.fromarray(image), Image.fromarray(255 - image)]
  moving = {"save_all": True, "append_images": frames[1:], "duration": 50}
  rgba = np.dstack([image, np.full((H, W), 255, np.uint8)])
  deep = (np.asarray(grey).astype(np.uint16) * 257).astype(np.uint16)
  jpeg = {"kind": "JPEG", "quality": 95, "subsampling": 0}
  return {
    "jpeg": encoded(image, **jpeg),
    "progressive": encoded(image, **jpeg, progressive=True),
    "grey_jpeg": encoded(grey, **jpeg),
    "cmyk_jpeg": encoded(image, mode="CMYK", **jpeg),
    "png": encoded(image),
    "grey_png": encoded(grey),
    "grey_alpha": encoded(image, mode="LA"),
    "rgba": encoded(rgba),
    "palette": encoded(image, mode="P"),
    "bits": encoded(grey.convert("1")),
    "deep_png": encoded(Image.fromarray(deep)),
    "deep_tiff": encoded(Image.fromarray(deep), "TIFF"),
    "float_tiff": encoded(
      Image.fromarray(np.asarray(grey).astype(np.float32)), "TIFF"
    ),
    "bmp": encoded(image, "BMP"),
    "webp": encoded(image, "WEBP", quality=95),
    "gif": encoded(image, "GIF"),
    "animated_gif": encoded(frames[0], "GIF", **moving),
    "animated_png": encoded(frames[0], "PNG", **moving),
    "one_pixel": encoded(image[:1, :1]),
  }


def broken() -> dict[str, bytes]:
  """Files that no one can read."""
  rng = np.random.default_rng(1)
  noise = rng.integers(0, 256, (H, W, 3), dtype=np.uint8)
  jpeg, png = encoded(noise, "JPEG"), encoded(noise)
  return {
    "empty": b"",
    "text": b"<html>404 not found</html>",
    "noise": rng.bytes(500),
    "short_jpeg": jpeg[: len(jpeg) // 2],
    "jpeg_header": jpeg[:30],
    "jpeg_start": b"\xff\xd8\xff",
    "short_png": png[: len(png) // 2],
    "png_start": png[:20],
    "bad_checksum": png[:60] + bytes(20) + png[80:],
    "bomb": _png(60_000, 60_000),
    "no_pixels": _png(0, 0),
  }


def _png(width, height) -> bytes:
  """A PNG that claims a size and holds nothing of it."""

  def chunk(kind, data):
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check

  head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99)))
  return b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b"")
