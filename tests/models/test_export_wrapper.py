"""The exported network matches transform, network and rating scale."""

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.scale import RatingScale
from datasets.transforms import build_test_transform
from models import build_model
from models.export_wrapper import ExportedNetwork
from utils.settings import ModelSettings, TransformSettings


@pytest.mark.parametrize("centers", [(1, 2, 3, 4, 5), (10, 30, 90)])
@torch.inference_mode()
def test_it_is_transform_network_and_scale(centers):
    torch.manual_seed(0)
    network = build_model(ModelSettings(backbone="cvt_nano"), len(centers)).eval()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    dos = network(build_test_transform(TransformSettings(resize=32, crop=32))(image)[None])
    scale = RatingScale(0, 100, centers)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
    outputs = ExportedNetwork(network, centers)(pixels)
    torch.testing.assert_close(outputs, {"dos": dos, "mos": scale.mean(dos), "sos": scale.std(dos)})


@torch.inference_mode()
def test_opinions_that_agree_have_no_spread():
    exported = ExportedNetwork(lambda pixels: torch.eye(3)[: len(pixels)], (1, 2, 3))
    outputs = exported(torch.zeros(3, 3, 8, 8))
    assert outputs["mos"].tolist() == [1, 2, 3]
    assert outputs["sos"].tolist() == [0, 0, 0]
