"""Reader of KADID-10k: 81 scenes in 125 distorted versions, rated 1..5; higher is better despite the name `dmos`.

Source: Lin, Hosu, Saupe, KADID-10k: A Large-scale Artificially Distorted IQA Database, QoMEX 2019.
"""

from datasets.readers.assembly import Reader, parser, release_parser
from datasets.readers.folder import under
from datasets.readers.tables import Columns
from datasets.scale import RatingScale

COLUMNS: Columns = {"name": ("dist_img",), "mos": ("dmos",), "sos": ("var",)}  # `var` holds the standard deviation

KADID10K = Reader(
    title="KADID-10k",
    scale=RatingScale(low=1, high=5, bin_centers=(1.4, 2.2, 3.0, 3.8, 4.6)),
    sos_a=0.2152,
    label_files={"dmos.csv": parser(COLUMNS), "kadid10khist_5.txt": release_parser()},
    layouts=(under("images"), under("kadid10k/images"), under("")),
    reference_from_name=lambda name: name.partition("_")[0],  # I01_02_03.png -> I01
)
