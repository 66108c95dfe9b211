"""Record the curves of tiny runs anew, or measure what rounding does to them.

    python -m tests.golden record [NAME...]
    python -m tests.golden spread [NAME...]

Without a name: of all runs. The spread of a metric is the largest distance of
five curves from the recorded one, their first parameters moved by rounding.
"""

import argparse

from tests.golden import bands, test_bands

_SEEDS = range(5)


def main():
  parser = argparse.ArgumentParser(prog="tests.golden", description=__doc__)
  parser.add_argument("what", choices=("record", "spread"))
  parser.add_argument("names", nargs="*", default=list(test_bands.RUNS))
  given = parser.parse_args()
  for name in given.names:
    run = test_bands.RUNS[name]
    if given.what == "record":
      bands.record(run)
    else:
      for metric, distance in bands.spread(run, _SEEDS).items():
        print(f"{name} {metric} {distance:.1e}")


if __name__ == "__main__":
  main()
