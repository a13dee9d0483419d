"""The page without a browser: its HTTP API as docs/SCORING.md shows it, what it refuses, what it deletes."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from inference import load_predictor
from scoring.page.handlers import Handlers
from scoring.page.uploads import Uploads
from tests.lite import lite_checkpoint
from tests.running import ROOT
from tests.test_docs import blocks
from utils.errors import UserError

SECONDS = 120  # that an answer may take, on a busy machine
BOUNDARY = "boundary"
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture(scope="module")
def layout():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        pytest.importorskip("gradio")
        from scoring.page import layout  # noqa: PLC0415, needs gradio

        yield layout


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return load_predictor(lite_checkpoint(tmp_path_factory.mktemp("lite") / "lite.pt"), device="cpu")


@pytest.fixture
def served(layout, predictor, tmp_path, monkeypatch):
    """The address of a page, and the folder of its uploads."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()
    page = layout.build_page(Handlers(predictor), Uploads(tmp_path / "uploads"))
    yield layout.launch(page, wait=False).rstrip("/"), tmp_path / "uploads"
    page.close()


def uploaded(address: str, name: str, content: bytes) -> list[str]:
    """Upload a file as a form does; return the paths that the server gives."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    given = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    with urlopen(Request(f"{address}/gradio_api/upload", body, given), timeout=SECONDS) as answer:
        return json.load(answer)


def called(address: str, endpoint: str, *data) -> tuple[str, list]:
    """Call an endpoint; return the last event and its data."""
    body = json.dumps({"data": data}).encode()
    request = Request(f"{address}/gradio_api/call/{endpoint}", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=SECONDS) as answer:
        event = json.load(answer)["event_id"]
    with urlopen(f"{address}/gradio_api/call/{endpoint}/{event}", timeout=SECONDS) as answer:
        *_, kind, text = answer.read().decode().strip().splitlines()
    return kind.removeprefix("event: "), json.loads(text.removeprefix("data: "))


def files_in(folder) -> list[str]:
    return [name for _, _, names in os.walk(folder) for name in names]


@needs_curl
def test_the_example_of_the_docs(served, predictor, photo):
    address, folder = served
    (example,) = (code for code in blocks(ROOT / "docs" / "SCORING.md", "sh") if "curl" in code)
    assert "http://127.0.0.1:7860" in example
    script = example.replace("http://127.0.0.1:7860", address).replace("photo.jpg", photo.name)
    done = subprocess.run(["bash", "-ec", script], cwd=photo.parent, capture_output=True, text=True, check=True)
    ((row,),) = json.loads(re.search("^data: (.*)", done.stdout, re.MULTILINE)[1])
    assert row["path"] == "photo.png"
    assert row["mos"] == pytest.approx(predictor(photo).mos, abs=1e-6)
    assert files_in(folder) == []


def test_two_pictures_are_compared(served, predictor, photos):
    address, folder = served
    paths = [photos / "p0.png", photos / "p8.png"]
    sent = [uploaded(address, path.name, path.read_bytes())[0] for path in paths]
    kind, (answer,) = called(address, "compare", *sent)
    expected = predictor.compare(*paths)
    assert kind == "complete"
    assert answer["probability"] == pytest.approx(expected.probability, abs=1e-6)
    assert [row["path"] for row in answer["rows"]] == ["p0.png", "p8.png"]
    assert files_in(folder) == []


def test_bad_files_and_files_that_were_not_uploaded(served, photo):
    address, _ = served
    kind, ((row,),) = called(address, "score", uploaded(address, "bad.png", b"no image"))
    assert (kind, row["mos"], row["error"].startswith("bad.png is not an image")) == ("complete", None, True)
    kind, error = called(address, "score", [str(photo)])
    assert kind == "error"
    assert "is not an uploaded file" in str(error)
    assert photo.exists()


def test_two_visitors_are_served_at_the_same_time(served, predictor, photo, monkeypatch):
    """Neither answer is complete before both are being worked on."""
    address, _ = served
    both, predict = Barrier(2, timeout=SECONDS), predictor.predict
    monkeypatch.setattr(predictor, "predict", lambda prepared: (both.wait(), predict(prepared))[1])
    sent = [uploaded(address, f"{number}.png", photo.read_bytes()) for number in range(2)]
    with ThreadPoolExecutor(2) as pool:
        answers = [*pool.map(lambda paths: called(address, "score", paths), sent)]
    assert [kind for kind, _ in answers] == ["complete"] * 2
    assert [row["path"] for _, ((row,),) in answers] == ["0.png", "1.png"]


def test_few_calls_are_remembered(layout, predictor, tmp_path, monkeypatch):
    """Gradio keeps the state of each session, and each call is one."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(layout, "SESSIONS", 2)
    page = layout.build_page(Handlers(predictor), Uploads(tmp_path))
    address = layout.launch(page, wait=False).rstrip("/")
    try:
        for number in range(4):
            assert called(address, "score", uploaded(address, f"{number}.jpg", b"no image"))[0] == "complete"
        assert len(page.app.state_holder.session_data) == 2
    finally:
        page.close()


def test_files_that_are_too_large_are_refused(layout, monkeypatch, request):
    monkeypatch.setattr(layout, "FILE_SIZE", "1kb")
    address, _ = request.getfixturevalue("served")
    with pytest.raises(HTTPError, match="413"):
        uploaded(address, "large.png", bytes(2000))


def test_a_port_in_use_is_an_error(layout, served, predictor):
    port = int(served[0].rpartition(":")[2])
    with pytest.raises(UserError, match=f"--port: {port} is in use"):
        layout.launch(layout.build_page(Handlers(predictor), Uploads(served[1])), port)


def test_addresses_are_not_fetched(layout, predictor, tmp_path):
    page = layout.build_page(Handlers(predictor), Uploads(tmp_path))
    inputs = [
        block for block in page.blocks.values() if type(block).__name__ in ("Gallery", "Image", "File", "UploadButton")
    ]
    assert len(inputs) == 5
    for component in inputs:
        with pytest.raises(layout.gr.Error, match="Addresses are not read"):
            asyncio.run(component.async_move_resource_to_block_cache("http://127.0.0.1:9/photo.jpg"))


def test_visitors_do_not_wait_for_each_other(layout, predictor, tmp_path):
    page = layout.build_page(Handlers(predictor), Uploads(tmp_path))
    limits = {function.api_name: function.concurrency_limit for function in page.fns.values()}
    public = [function.api_name for function in page.fns.values() if function.api_visibility == "public"]
    assert public == ["score", "compare"]
    assert min(limits[name] for name in (*public, "score_pictures", "compare_pair", "score_all", "score_folder")) > 1
