"""Reader of VCL@FER: 23 scenes in 552 distorted versions, rated 0..100, no SOS.

Source: Zaric, Tatalovic, Brajkovic, Hlevnjak, Loncaric, Dumic, Grgic, VCL@FER Image Quality Assessment Database,
AUTOMATIKA 2012.
"""

from functools import partial

from datasets.readers.assembly import LIST_COLUMNS, Reader, file_name, parser, release_parser
from datasets.readers.folder import under
from datasets.readers.tables import Columns, read_sheet
from datasets.scale import RatingScale

# the layout of results.xls is not documented: the first sheet and row with a title from each list is used
COLUMNS: Columns = {
    "name": ("Image", "Image name", "Image_name", "Filename", "File name", "Name", "dist_img", "dis_img_path"),
    "mos": ("MOS", "Mean opinion score", "Score", "MOS value"),
}


def _name(path: str) -> str:
    """`VCLFER/vcl_fer/IMG_01_JPG_1.jpg` -> `IMG_01_JPG_1.jpg`; an extension is added if the file has none."""
    name = file_name(path)
    return name if "." in name else f"{name}.{'jpg' if '_JPG_' in name else 'bmp'}"


VCLFER = Reader(
    title="VCL@FER",
    scale=RatingScale(low=0, high=100, bin_centers=(10, 30, 50, 70, 90)),
    sos_a=0.1304,
    release_sos="hypothesis",
    label_files={
        "results.xls": parser(COLUMNS, _name, partial(read_sheet, columns=COLUMNS)),
        "VCLFERhist.txt": release_parser(_name),
        "VCLFER.txt": parser(LIST_COLUMNS, _name),
    },
    layouts=(under("vcl_fer"), under("VCLFER/vcl_fer"), under("")),
    reference_from_name=lambda name: "_".join(name.split("_")[:2]),  # IMG_01_AWGN_1.bmp -> IMG_01
)
