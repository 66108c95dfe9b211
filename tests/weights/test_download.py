import contextlib
import functools
import hashlib
import http.server
import threading

import pytest

from weights import download

CONTENT = b"some weights"


@contextlib.contextmanager
def serve(folder):
  handler = functools.partial(
    http.server.SimpleHTTPRequestHandler, directory=str(folder)
  )
  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
  thread = threading.Thread(target=server.serve_forever)
  thread.start()
  try:
    yield f"http://127.0.0.1:{server.server_port}/"
  finally:
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("TESSERA_CACHE", str(tmp_path / "cache"))
  return tmp_path / "cache"


def register(monkeypatch, url):
  digest = hashlib.sha256(CONTENT).hexdigest()[:8]
  file = download.File("net.pth", url, digest, "a test network")
  monkeypatch.setitem(download.FILES, "net", file)


def test_a_file_is_fetched_once_and_announced(
  tmp_path, cache, monkeypatch, capsys
):
  (tmp_path / "net.pth").write_bytes(CONTENT)
  with serve(tmp_path) as url:
    register(monkeypatch, url + "net.pth")
    path = download.fetch("net")
  assert path == cache / "net.pth" and path.read_bytes() == CONTENT
  announced = capsys.readouterr().err
  assert "Fetching a test network once" in announced
  assert download.fetch("net") == path
  assert "Fetching" not in capsys.readouterr().err
  assert [p.name for p in cache.iterdir()] == ["net.pth"]


def test_without_network_one_line_says_which_file_goes_where(
  cache, monkeypatch
):
  register(monkeypatch, "http://127.0.0.1:9/net.pth")
  with pytest.raises(download.WeightsMissing) as caught:
    download.fetch("net")
  message = str(caught.value)
  assert "\n" not in message
  assert "127.0.0.1:9/net.pth" in message and str(cache) in message
  assert list(cache.iterdir()) == []


def test_another_file_is_refused(cache, monkeypatch):
  register(monkeypatch, "http://127.0.0.1:9/net.pth")
  cache.mkdir()
  (cache / "net.pth").write_bytes(b"damaged")
  with pytest.raises(download.WeightsMissing, match="damaged or another file"):
    download.fetch("net")


def test_an_unknown_name_lists_the_names():
  with pytest.raises(ValueError, match="not one of inception, vgg16"):
    download.fetch("resnet")
