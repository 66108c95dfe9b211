"""Peak arithmetic of known accelerators, for model FLOP utilisation."""

from typing import Any

# Dense bfloat16 (float16 before Ampere) FLOP/s of one JAX device, from the
# makers' data sheets. The first entry found in the device kind counts. A
# device of TPU v2 and v3 is a core, half a chip.
_PEAKS = (
  ("TPU v2", 22.5e12),
  ("TPU v3", 61.5e12),
  ("TPU v4", 275e12),
  ("TPU v5 lite", 197e12),
  ("TPU v5e", 197e12),
  ("TPU v5", 459e12),
  ("TPU v6", 918e12),
  ("B200", 2250e12),
  ("H200", 989e12),
  ("H100 PCIe", 756e12),
  ("H100", 989e12),
  ("A100", 312e12),
  ("A10G", 70e12),
  ("L40S", 362e12),
  ("L4", 121e12),
  ("V100", 125e12),
  ("T4", 65e12),
)


def peak_flops(device: Any) -> float | None:
  """Peak FLOP/s of one device; None where it is not known (CPUs)."""
  if device.platform == "cpu":
    return None
  for name, peak in _PEAKS:
    if name.lower() in device.device_kind.lower():
      return peak
  return None
