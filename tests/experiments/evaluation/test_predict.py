"""What stands beside the metrics of a test part."""

import numpy as np

from datasets.database import load_databases
from experiments.evaluation.predict import Predictions
from tests.databases import write_database
from utils.bootstrap import confidence_intervals
from utils.config import load_config


def test_intervals_draw_whole_scenes_where_splits_do(tmp_path):
    root = write_database("kadid10k", tmp_path / "kadid10k").root
    for unit, attribute in (("auto", "reference"), ("image", "name")):
        config = load_config("configs/kadid10k.yaml", [f"dataset.root={root}", f"protocol.unit={unit}"])
        (database,) = load_databases(config)
        names = sorted(database.records)[:-1]  # scenes of different sizes
        dos = np.random.default_rng(0).dirichlet(np.ones(5), len(names))
        drawn_by = [getattr(database.records[name], attribute) for name in names]
        told = Predictions(database, names, dos).details()
        pred, target = database.quantities(dos), database.targets(names)
        expected = confidence_intervals(pred, target, database.scale.bin_centers, drawn_by)
        np.testing.assert_equal(told["intervals"], expected)
        of_images = confidence_intervals(pred, target, database.scale.bin_centers)
        assert (told["intervals"]["emd"] == of_images["emd"]) == (unit == "image")
        assert told["interval_units"]["count"] == len(set(drawn_by))
        assert told["interval_units"]["unit"] == {"auto": "reference"}.get(unit, unit)
