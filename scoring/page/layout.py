"""Layout of the page: three tabs of Gradio components, the HTTP API, and the server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
from gradio_client.utils import is_http_url_like

from scoring.defaults import is_image
from scoring.page.handlers import MOST_FILES, MOST_PICTURES, Handlers
from scoring.page.uploads import Uploads
from utils.errors import UserError

HERE = Path(__file__).parent
FILE_SIZE = "50mb"  # of one upload
VISITORS = 8  # whose pictures, or whose folders, are scored at the same time
SOURCES = ["upload", "clipboard", "webcam"]
PRIVATE = {"api_visibility": "private", "concurrency_limit": VISITORS, "show_progress": "hidden"}
PLAIN = {"js_on_load": None, "apply_default_css": False}  # of HTML, which has its own style
SESSIONS = 100  # whose state Gradio keeps, 0.1 MB each; the page keeps none itself, and each call of the API is one
LEFTOVERS = (600, 86_400)  # every 10 minutes, uploads that are a day old are deleted: those that no session claimed
COLOURS = {  # of Gradio's theme, near those of utils/page.css
    "color_accent": "#3f739f",
    "body_text_color_subdued": "#56636f",
    "body_text_color_subdued_dark": "#a3b1be",
    "link_text_color": "#3f739f",
    "link_text_color_dark": "#8fb8da",
}
INTRODUCTION = """<div class="rq rq-intro"><h1>RichIQA</h1>
<p>How would people rate this photograph? Pictures are scored by the machine that runs this page, and deleted when you
close it.</p></div>"""

Item = tuple[str, str | None]  # of a gallery: path and caption


def build_page(handlers: Handlers, uploads: Uploads) -> gr.Blocks:
    """Return the page; its uploads are deleted when the browser leaves it."""
    with gr.Blocks(title="RichIQA", analytics_enabled=False, delete_cache=LEFTOVERS) as page:
        gr.HTML(INTRODUCTION, **PLAIN)
        with gr.Tab("Score"):
            _add_score(handlers, uploads)
        with gr.Tab("Compare"):
            _add_compare(handlers, uploads)
        with gr.Tab("Folder"):
            _add_folder(handlers, uploads)
        _add_api(handlers, uploads)

        def leave(request: gr.Request) -> None:
            uploads.release(request.session_hash)

        page.unload(leave)
    return page


def launch(page: gr.Blocks, port: int | None = None, wait: bool = True) -> str:
    """Start the server and return the address of the page.

    Args:
        page: Page to serve.
        port: Port; None takes the first free one from 7860.
        wait: Whether to return only when the server is stopped by ctrl-c.

    Raises:
        UserError: The port is in use.
    """
    font = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
    theme = gr.themes.Base(primary_hue="sky", neutral_hue="slate", font=font, font_mono=["ui-monospace", "monospace"])
    theme.set(**COLOURS)
    try:
        _, address, _ = page.launch(
            inbrowser=False,
            share=False,
            quiet=True,
            server_port=port,
            prevent_thread_lock=True,
            max_file_size=FILE_SIZE,
            state_session_capacity=SESSIONS,
            theme=theme,
            css_paths=HERE / "style.css",
            footer_links=[],
            run_history=False,  # it keeps pictures in the browser
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
        )
    except OSError as error:
        raise UserError(f"--port: {port or 'each from 7860'} is in use; name another") from error
    print(f"The page is at {address} until you press ctrl-c.", flush=True)
    if wait:
        page.block_thread()
    return address


def _of_uploads(component: gr.components.Component) -> gr.components.Component:
    """Make a component take uploads only: Gradio would download a file whose address a request names."""
    move = component.async_move_resource_to_block_cache

    async def move_upload(path: str | Path | None) -> str | None:
        if path is not None and is_http_url_like(str(path)):
            raise gr.Error("Addresses are not read; upload the picture.", print_exception=False)
        return await move(path)

    component.async_move_resource_to_block_cache = move_upload
    return component


def _picture(label: str) -> gr.Image:
    """Return an input for one picture, whose file is passed on as it was uploaded, also if it is not an image."""
    image = gr.Image(label=label, sources=SOURCES, height=320, elem_id=f"picture_{label.lower()}", buttons=[])
    image.preprocess = lambda payload: None if payload is None else payload.path
    return _of_uploads(image)


def _add_score(handlers: Handlers, uploads: Uploads) -> None:
    pictures = gr.Gallery(
        label=f"Pictures, up to {MOST_PICTURES}",
        **{"sources": SOURCES, "interactive": True, "columns": 6, "height": 175, "object_fit": "cover"},
        **{"elem_id": "pictures", "fit_columns": False, "buttons": []},
    )
    _of_uploads(pictures)
    maps = gr.Checkbox(label="Show which areas raise and lower the score", elem_id="maps", container=False)
    scores = gr.HTML(elem_id="scores", **PLAIN)

    def score_pictures(items: list[Item] | None, with_maps: bool, request: gr.Request) -> str:
        paths = [path for path, _ in items or []]
        uploads.claim(request.session_hash, paths)
        return handlers.score(paths, with_maps)

    gr.on(
        [pictures.change, maps.change], score_pictures, [pictures, maps], scores, trigger_mode="always_last", **PRIVATE
    )


def _add_compare(handlers: Handlers, uploads: Uploads) -> None:
    with gr.Row():
        pair = [_picture("A"), _picture("B")]
    answer = gr.HTML(elem_id="comparison", **PLAIN)

    def compare_pair(first: str | None, second: str | None, request: gr.Request) -> str:
        uploads.claim(request.session_hash, filter(None, (first, second)))
        return handlers.compare(first, second)

    gr.on([picture.change for picture in pair], compare_pair, pair, answer, trigger_mode="always_last", **PRIVATE)


def _add_folder(handlers: Handlers, uploads: Uploads) -> None:
    files = gr.File(label=f"Files, up to {MOST_FILES}", file_count="multiple", height=180, elem_id="files")
    with gr.Row():
        folder = gr.UploadButton("Choose a folder", file_count="directory", scale=0, size="sm", elem_id="folder")
        stop = gr.Button("Stop", scale=0, size="sm", visible=False, elem_id="stop")
    for component in (files, folder):
        _of_uploads(component)
    sort = (HERE / "sort.js").read_text(encoding="utf-8")
    scores = gr.HTML(elem_id="table", apply_default_css=False, js_on_load=sort)

    def score_all(paths: list[str] | None, request: gr.Request) -> Iterator[tuple[str, gr.Button]]:
        uploads.claim(request.session_hash, paths or [])
        for html, running in handlers.folder(paths or []):
            yield html, gr.Button(visible=running)

    def score_folder(paths: list[str] | None, request: gr.Request) -> Iterator[tuple[str, gr.Button]]:
        uploads.claim(request.session_hash, paths or [])  # what is no image is passed over, as inference.py does
        yield from score_all([path for path in paths or [] if is_image(path)], request)

    events = [
        files.change(score_all, files, [scores, stop], trigger_mode="always_last", **PRIVATE),
        folder.upload(score_folder, folder, [scores, stop], **PRIVATE),
    ]
    stop.click(lambda: ("", gr.Button(visible=False)), None, [scores, stop], cancels=events, **PRIVATE)


@contextmanager
def _sentences() -> Iterator[None]:
    """Return a user's mistake to the caller, without a traceback on stderr."""
    try:
        yield
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from error


def _add_api(handlers: Handlers, uploads: Uploads) -> None:
    """Add the endpoints of the HTTP API; files are deleted once they are scored."""

    def score(files: list[str]) -> list[dict]:
        """Return the row of each uploaded file, with the fields of the output of inference.py."""
        with _sentences(), uploads.claimed(files) as paths:
            return handlers.rows(paths)

    def compare(first: str, second: str) -> dict:
        """Return the probability that a person prefers the first picture, and both rows."""
        with _sentences(), uploads.claimed([first, second]) as paths:
            return handlers.comparison(*paths)

    for endpoint in (score, compare):
        gr.api(endpoint, api_name=endpoint.__name__, concurrency_limit=VISITORS)
