"""Show RichIQA as a page in a browser: `python app.py [--checkpoint FILE] [--port PORT]`; `--help` lists every option.

Nothing is loaded from another host, and uploads are deleted. Slow imports wait until they are needed.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))  # missing under python -P or -I

from utils.files import temporary_folder
from utils.installation import require_packages, require_page_packages
from utils.script import first_line, run_script


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=first_line(__doc__), allow_abbrev=False)
    add = parser.add_argument
    add("--checkpoint", metavar="FILE", help="as for inference.py; default: the weights that come with the project")
    add("--device", default="auto", help="auto (default), cpu, cuda, cuda:1 or mps")
    add("--scale", help="rating scale of a checkpoint of the release, as for inference.py")
    add("--port", type=int, help="default: the first free one from 7860")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    require_packages()
    require_page_packages()
    signal.signal(signal.SIGTERM, _stop)
    with temporary_folder("richiqa_page_") as folder:
        os.environ.update(GRADIO_TEMP_DIR=str(folder), GRADIO_ANALYTICS_ENABLED="False")
        predictor = import_module("scoring.loading").load_predictor(args.checkpoint, args.device, args.scale)
        handlers = import_module("scoring.page.handlers").Handlers(predictor)
        uploads = import_module("scoring.page.uploads").Uploads(folder)
        layout = import_module("scoring.page.layout")
        layout.launch(layout.build_page(handlers, uploads), args.port)
    return 0


def _stop(*_) -> None:
    """Exit as at the end of the script, so that the uploads are deleted; a second signal does not interrupt that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


if __name__ == "__main__":
    run_script(main)
