"""How far a job is, in a log."""

import types

from launch import scores


def test_a_log_says_how_far_a_job_is_every_half_minute(monkeypatch, capsys):
  now = [0.0]
  clock = types.SimpleNamespace(monotonic=lambda: now[0])
  monkeypatch.setattr(scores, "time", clock)
  with scores.Bar("sampling", 5000) as show:
    show(1000, 5000)  # were there
    for second in range(1, 71):
      now[0] = second
      show(1000 + 50 * second, 5000)
  assert capsys.readouterr().err.splitlines() == [
    "sampling: 2,500 of 5,000, 50 images/s",
    "sampling: 4,000 of 5,000, 50 images/s",
  ]


def test_a_short_job_says_nothing(capsys):
  with scores.Bar("sampling", 10) as show:
    show(0, 10)
    show(10, 10)
  assert not capsys.readouterr().err
