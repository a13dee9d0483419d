"""Workers for the tests of the Ray engine; Ray imports them in its own processes."""

import os
import signal
import time
from pathlib import Path

from scoring.ray.engine import Scorer
from utils.errors import MachineError

PIDS = Path("pids")  # below the folder in which the command runs
NETWORK = Path("network")  # as well
SECONDS_A_BATCH = 0.1


class Reporting(Scorer):
    """Leaves its process id in a folder, and takes its time."""

    def __init__(self, references):
        super().__init__(references)
        PIDS.mkdir(exist_ok=True)
        (PIDS / str(os.getpid())).touch()

    def __call__(self, table):
        for rows in super().__call__(table):
            time.sleep(SECONDS_A_BATCH)
            yield rows


class Telling(Scorer):
    """Leaves a file with the name of the class that computes."""

    def __init__(self, references):
        super().__init__(references)
        NETWORK.write_text(type(self.predictor.fused).__name__)


class Dying(Scorer):
    """Dies of each image that is called poison.png, as by a fault in a decoder."""

    def _images_at(self, source):
        if source.endswith("poison.png"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._images_at(source)


class Refusing(Scorer):
    """Raises what a GPU without memory raises."""

    def _images_at(self, source):
        raise MachineError(f"{'cuda' if source else 'cpu'} has not enough memory")
