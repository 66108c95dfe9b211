"""How an image of any size is framed: resized, then made whole blocks.

Plain arithmetic, for both host pipelines. The aspect ratio is kept: the long
side becomes the configured resolution, then each side becomes a multiple of
2B, by cropping or by repeating the edge. A canvas as wide as high takes images
whose long side is either one; where all have the same shape it may be smaller.
"""

import dataclasses

from dctransformer import dct

FITS = ("crop", "pad")


@dataclasses.dataclass(frozen=True)
class Frame:
  """What happens to an image before the transform.

  Attributes:
    resize: long side in pixels; None leaves the size as it is.
    fit: "crop" to the multiple below (centred), or "pad" to the one above
      (at the right and below). A side below one unit is always padded.
    unit: pixels that the sides become a multiple of, 2B.
  """

  resize: int | None
  fit: str
  unit: int

  def resized(self, h: int, w: int) -> tuple[int, int]:
    """Return the size after resizing, at least one pixel each way."""
    if self.resize is None:
      return h, w
    long = max(h, w)
    # Half up, in integers: the same on every machine.
    return tuple(
      max((2 * side * self.resize + long) // (2 * long), 1) for side in (h, w)
    )

  def fitted(self, side: int) -> tuple[int, int, int]:
    """Return offset, pixels kept, and pixels after padding of one side."""
    if self.fit == "pad":
      return 0, side, -(-side // self.unit) * self.unit
    kept = min(max(side // self.unit, 1) * self.unit, side)
    return (side - kept) // 2, kept, max(kept, self.unit)


def make(codec: dct.Codec, resize: int | None, fit: str) -> Frame:
  """Build the frame of a codec.

  Raises:
    ValueError: an unknown fit, or a long side that exceeds the canvas.
  """
  if fit not in FITS:
    raise ValueError(f"fit {fit!r} must be one of {list(FITS)}")
  frame = Frame(resize, fit, 2 * codec.block)
  if resize is not None:
    if resize < 1:
      raise ValueError(f"resize {resize} must be at least 1 pixel")
    side = frame.fitted(resize)[2]
    canvas = codec.block * max(codec.rows, codec.cols)
    if side > canvas:
      raise ValueError(
        f"resize {resize} needs {side // codec.block} blocks along the long"
        f" side; the canvas has {codec.rows} x {codec.cols}: raise rows or"
        f" cols, or resize to {canvas}"
      )
  return frame
