import fcntl

from launch import doctor, setup


def test_healthy_machine_passes(tmp_path, capsys):
  assert doctor.main([f"--workdir={tmp_path}"]) == 0
  out = capsys.readouterr().out
  assert "Python 3." in out
  assert "jax 0." in out
  assert "8 x cpu" in out
  assert "compile cache" in out
  assert "FAIL" not in out


def test_missing_packages_have_their_cure():
  found = list(doctor.packages(("numpy", "no_such_thing"), ("neither",)))
  assert [x.verdict for x in found] == ["FAIL", "warn"]
  assert "no_such_thing" in found[0].found and "make install" in found[0].cure


def test_wanted_accelerator_fails_and_an_idle_one_warns(monkeypatch):
  (finding,) = doctor.devices("gpu")
  assert finding.verdict == "FAIL" and "[cuda]" in finding.cure
  monkeypatch.setattr(setup, "accelerator_here", lambda: "TPU")
  (finding,) = doctor.devices()
  assert finding.verdict == "warn" and "[tpu]" in finding.cure


def test_tpu_lock_is_stale_or_held(tmp_path):
  path = tmp_path / "libtpu_lockfile"
  assert not list(doctor.tpu_lock(path))
  path.touch()
  (finding,) = doctor.tpu_lock(path)
  assert "stale" in finding.found and finding.cure == f"rm -f {path}"
  with open(path) as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    (finding,) = doctor.tpu_lock(path)
  assert "another process" in finding.found


def test_little_disk_warns(tmp_path, monkeypatch):
  monkeypatch.setattr(doctor, "LITTLE_DISK_GB", 1e9)
  (finding,) = doctor.disk(tmp_path / "not" / "yet")
  assert finding.verdict == "warn" and "train.keep" in finding.cure


def test_datasets_are_listed(tmp_path, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  (tmp_path / "scenes").mkdir()
  (tmp_path / "downloads" / "manual").mkdir(parents=True)
  (tmp_path / "downloads" / "manual" / "ffhq.zip").touch()
  text = " ".join(str(x) for x in doctor.data_folders())
  assert ": scenes" in text and ": ffhq.zip" in text


def test_a_broken_check_is_a_finding(monkeypatch, capsys):
  def broken():
    raise RuntimeError("no such file")
    yield

  monkeypatch.setattr(doctor, "memory", broken)
  assert doctor.main([]) == 0
  assert "could not be checked" in capsys.readouterr().out
