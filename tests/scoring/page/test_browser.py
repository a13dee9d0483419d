"""The page in a browser: `make test-browser` installs what this needs, beside Chromium and its driver."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image

from inference import load_predictor
from tests.lite import lite_checkpoint
from tests.running import ROOT

pytest.importorskip("gradio")
pytest.importorskip("selenium")

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 300  # that anything may take, on a busy machine
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),  # a camera that shows a green picture
)
COPY = """
const [done, canvas] = [arguments[0], document.createElement("canvas")];
[canvas.width, canvas.height] = [70, 50];
canvas.getContext("2d").fillRect(10, 10, 30, 30);
canvas.toBlob(async (blob) => {
  await navigator.clipboard.write([new ClipboardItem({"image/png": blob})]);
  done();
});
"""
HOSTILE = "<img src=x onerror=document.title=1>{{1}}${1}.png"
pytestmark = pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="chromium or chromedriver is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Twenty files, three of which are not images."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    names = [HOSTILE, *(f"photo_{number:02d}.png" for number in range(16))]
    for number, name in enumerate(names):
        size = (40 + 5 * number, 60, 3)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(folder / name)
    (folder / "empty.png").write_bytes(b"")
    (folder / "letter.jpg").write_text("Dear colleagues")
    (folder / "half.png").write_bytes((folder / "photo_00.png").read_bytes()[:2000])
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return lite_checkpoint(tmp_path_factory.mktemp("lite") / "lite.pt")


@pytest.fixture(scope="module")
def predictor(checkpoint):
    return load_predictor(checkpoint, device="cpu")


@pytest.fixture(scope="module")
def server(checkpoint, tmp_path_factory):
    """`python app.py`: its process, its address and the folder of its temporary files."""
    temporary = tmp_path_factory.mktemp("temporary")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "app.py", "--checkpoint", str(checkpoint), "--device", "cpu", "--port", str(port)]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert f"http://127.0.0.1:{port}" in process.stdout.readline()
        yield process, f"http://127.0.0.1:{port}", temporary
        process.kill()


@pytest.fixture
def browser(server):
    """A browser on the page; afterwards, every request of the page is found to be to its own server."""
    _, address, _ = server
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(SECONDS)
    driver.get(address)
    yield driver
    hosts = requested_hosts(driver)
    driver.quit()
    assert hosts == {urlsplit(address).netloc}


def requested_hosts(driver: WebDriver) -> set[str]:
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    requests = (message["params"] for message in messages if message["method"] == "Network.requestWillBeSent")
    urls = [urlsplit(request["request"]["url"]) for request in requests]
    assert len(urls) > 10
    return {url.netloc for url in urls if url.scheme not in ("data", "blob", "about")}


def found(driver: WebDriver, selector: str) -> WebElement:
    """The first element, as soon as there is one."""
    find = lambda driver: driver.find_elements(By.CSS_SELECTOR, selector)  # noqa: E731
    return WebDriverWait(driver, SECONDS).until(find)[0]


def upload(driver: WebDriver, place: str, *paths: Path) -> None:
    found(driver, f"{place} input[type=file]").send_keys("\n".join(map(str, paths)))


def press(driver: WebDriver, selector: str) -> None:
    driver.execute_script("arguments[0].click()", found(driver, selector))


def open_tab(driver: WebDriver, name: str) -> None:
    found(driver, "button[role=tab]")
    (tab,) = (tab for tab in driver.find_elements(By.CSS_SELECTOR, "button[role=tab]") if tab.text == name)
    tab.click()


def uploads_in(folder: Path) -> list[Path]:
    return [path for path in folder.glob("richiqa_page_*/**/*") if path.is_file()]


def test_a_picture_is_scored_and_deleted_when_the_page_is_closed(browser, server, folder, predictor):
    *_, temporary = server
    upload(browser, "#pictures", folder / "photo_00.png", folder / "letter.jpg")
    number = found(browser, "#scores .rq-number").text
    assert number == f"{predictor(folder / 'photo_00.png').mos:.2f}"
    assert found(browser, "#scores .rq-problems").text.startswith("letter.jpg is not an image")
    found(browser, "#maps input").click()
    assert "raises the score" in found(browser, "#scores .rq-key").text
    assert found(browser, "#scores .rq-number").text == number
    assert len(uploads_in(temporary)) == 2
    browser.get("about:blank")
    WebDriverWait(browser, SECONDS).until(lambda _: uploads_in(temporary) == [])


def test_a_picture_from_the_camera(browser):
    """Videos are not offered, neither before nor after."""
    videos = "#pictures [aria-label*='video']"
    press(browser, "#pictures [aria-label='Capture from camera']")
    assert not found(browser, videos).is_displayed()
    press(browser, "#pictures [title='grant webcam access'] button")
    press(browser, "#pictures [aria-label='capture photo']")
    assert "webcam" in found(browser, "#scores .rq-card").text
    assert not found(browser, videos).is_displayed()


def test_a_pasted_picture(browser, server):
    permissions = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": server[1]}
    browser.execute_cdp_cmd("Browser.grantPermissions", permissions)
    browser.set_script_timeout(SECONDS)
    browser.execute_async_script(COPY)
    press(browser, "#pictures [aria-label='Paste from clipboard']")
    assert "70 × 50" in found(browser, "#scores .rq-card").text


def test_two_pictures_are_compared(browser, folder, predictor):
    first, second = folder / "photo_00.png", folder / "photo_15.png"
    open_tab(browser, "Compare")
    upload(browser, "#picture_a", first)
    upload(browser, "#picture_b", second)
    expected = 100 * predictor.compare(first, second).probability
    text = found(browser, "#comparison .rq-sure").text.replace("\N{NO-BREAK SPACE}", " ")
    assert text.startswith(f"{expected:.0f} % of people would prefer A, {100 - expected:.0f} % would prefer B")


def test_a_folder_with_bad_files(browser, folder, predictor):
    open_tab(browser, "Folder")
    upload(browser, "#files", *sorted(folder.iterdir()))
    assert found(browser, "#table .rq-winner").text == "17 pictures scored"
    problems = [item.text for item in browser.find_elements(By.CSS_SELECTOR, "#table .rq-problems li")]
    assert [problem.split()[0] for problem in problems] == ["empty.png", "half.png", "letter.jpg"]
    names = lambda: [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, "#table td.text")]  # noqa: E731
    paths = [path for path in folder.iterdir() if path.name.startswith("photo")]
    best_first = sorted(paths, key=lambda path: -predictor(path).mos)
    shown = names()
    assert [name for name in shown if name.startswith("photo")] == [path.name for path in best_first]
    assert browser.find_elements(By.CSS_SELECTOR, "img[src='x']") == []
    assert browser.title == "RichIQA"
    (title,) = (each for each in browser.find_elements(By.CSS_SELECTOR, "#table th button") if each.text == "Picture")
    title.click()
    assert names()[-16:] == sorted(path.name for path in paths)
    link = found(browser, "#table a[download='scores.csv']").get_attribute("href")
    assert len(unquote(link.partition(",")[2]).splitlines()) == 1 + 20


def test_a_whole_folder_is_chosen_and_stopped(browser, folder, tmp_path):
    for number in range(200):
        shutil.copy(folder / "photo_15.png", tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    open_tab(browser, "Folder")
    found(browser, "[data-testid='Choose a folder-upload-button']").send_keys(str(tmp_path))
    assert found(browser, "#table .rq p").text.endswith("of 200 files")
    found(browser, "#stop").click()
    WebDriverWait(browser, SECONDS).until(lambda browser: found(browser, "#table").text == "")


def test_it_deletes_its_files_when_it_is_stopped(server):
    """Last, since the server is gone afterwards."""
    process, _, temporary = server
    assert len([*temporary.glob("richiqa_page_*")]) == 1
    for _ in range(2):  # as an impatient supervisor does
        process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0
    assert [*temporary.glob("richiqa_page_*")] == []
