"""A checkpoint alone as a function of pictures."""

import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.scale import RatingScale
from datasets.transforms import build_test_transform
from inference import load_predictor
from models import build_model
from models.official import to_official
from scoring.loading import newest_best
from scoring.scale_text import parse_scale, scale_text
from tests.running import ROOT
from tests.scoring.scored import ACR, SETTINGS
from utils.checkpoint import save_checkpoint
from utils.config import config_from_dict
from utils.errors import MissingFileError, UserError
from utils.settings import TransformSettings


@pytest.fixture
def predictor(checkpoint):
    return load_predictor(checkpoint, device="cpu")


@pytest.fixture
def pictures():
    rng = np.random.default_rng(3)
    sizes = [(50, 70), (90, 40), (33, 33), (200, 120), (64, 64)] * 4
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def test_path_picture_array_and_tensor_give_the_same(predictor, photo):
    prediction = predictor(photo)
    picture = Image.open(photo)
    pixels = np.asarray(picture)
    tensor = torch.tensor(pixels).permute(2, 0, 1)
    for same in (picture, str(photo), pixels, tensor, tensor / 255):
        assert predictor(same) == prediction
    assert (
        predictor([photo, picture]) == predictor(np.stack([pixels] * 2)) == predictor(tensor[None].repeat(2, 1, 1, 1))
    )
    assert prediction.scale == predictor.scale == RatingScale(0, 100, (10, 30, 50, 70, 90), higher_is_better=False)
    assert sum(prediction.dos) == pytest.approx(1, abs=1e-6)
    assert prediction.mos == pytest.approx(np.dot(prediction.dos, prediction.scale.bin_centers))
    spread = np.dot(prediction.dos, (np.array(prediction.scale.bin_centers) - prediction.mos) ** 2) ** 0.5
    assert prediction.sos == pytest.approx(spread)


def test_grey_and_transparent_arrays(predictor):
    grey = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    expected = predictor(np.stack([grey] * 3, axis=-1))
    assert predictor(grey) == predictor(torch.tensor(grey)[None]) == expected
    opaque = np.dstack([np.stack([grey] * 3, axis=-1), np.full_like(grey, 255)])
    assert predictor(opaque) == expected


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"bytes", "the file in memory is not an image that Pillow can read"),
        (b"", "the file in memory is empty"),
        (io.BytesIO(b"PK\3\4"), r"the file in memory is not an image but an archive \(zip\)"),
        (io.StringIO("text"), r"read\(\) gives str, not bytes; open the file in binary mode"),
        (None, "got NoneType"),
        ({"bytes": b""}, "the bytes of an image file, .*, got dict"),
        (iter([]), "got list_iterator; predictor.score_many takes a stream"),
        (np.full((4, 4, 3), 2.0), "from 0 to 1, got 2 to 2"),
        (np.zeros((4, 4), np.int64), "uint8, uint16, bool, or float from 0 to 1, got int64"),
        (np.zeros((3, 4, 5), np.uint8), r"got \(3, 4, 5\); use array.transpose\(1, 2, 0\)"),
        (torch.zeros(5, 6, 3), r"got \(5, 6, 3\); use tensor.permute\(2, 0, 1\)"),
        (np.zeros((4, 4, 2), np.uint8), r"\(H, W, 3\).*got \(4, 4, 2\)"),
        (np.zeros((0, 4), np.uint8), r"got \(0, 4\)"),
        (torch.zeros(8, 4, 3), r"\(C, H, W\).*got \(8, 4, 3\)"),
        (torch.full((3, 4, 4), 2.0), "from 0 to 1, got 2 to 2"),
        (torch.full((3, 4, 4), float("nan")), "from 0 to 1, got nan to nan"),
        (torch.zeros(3, 4, 4).to_sparse(), "an image of Tensor cannot be read: "),
        (torch.zeros(3, 4, 4, dtype=torch.int32), "float from 0 to 1, got int32"),
    ],
)
def test_what_is_no_image_is_named(image, message, predictor):
    with pytest.raises(UserError, match=message):
        predictor(image)


def test_files_in_memory_and_arrays_of_any_kind(predictor, photo, tmp_path):
    expected, data, pixels = predictor(photo), photo.read_bytes(), np.asarray(Image.open(photo))
    written = io.BytesIO(data)
    written.seek(0, io.SEEK_END)  # as after writing it
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(photo, "a.png")
    with open(photo, "rb") as file, zipfile.ZipFile(tmp_path / "a.zip") as archive, archive.open("a.png") as member:
        for same in (data, bytearray(data), memoryview(data), io.BytesIO(data), written, file, file, member):
            assert predictor(same) == expected
        assert list(predictor.score_many([file] * 4, batch_size=1, workers=4)) == [expected] * 4
    with pytest.raises(UserError, match=r"photo\.png cannot be read: .*closed file"):
        predictor(file)
    deep = pixels.astype(np.uint16) * 257
    tensor = torch.tensor(pixels).permute(2, 0, 1)
    kinds = [deep, deep.astype(">u2"), pixels / 255, (pixels / 255).astype(np.float32), np.asfortranarray(pixels)]
    for same in (*kinds, torch.tensor(deep).permute(2, 0, 1), tensor.double() / 255, pixels[::-1][::-1]):
        assert predictor(same) == expected
    mask = pixels[..., 0] > 128
    assert predictor(mask) == predictor(torch.tensor(mask)) == predictor(Image.fromarray(mask)) != expected

    class Foreign:
        """An array of another library."""

        def __array__(self, dtype=None, copy=None):
            return pixels

    assert predictor(Foreign()) == expected


def test_files_of_web_services(predictor, photo):
    """Streams that cannot be rewound, with little more than `read`, and those that have to be awaited."""

    class Stream:
        def __init__(self, data):
            self.read = io.BytesIO(data).read

    class Upload:
        name = "upload"

        async def seek(self, _): ...

        async def read(self):
            return b""

    assert predictor(Stream(photo.read_bytes())) == predictor(photo)
    reader, writer = os.pipe()
    os.write(writer, photo.read_bytes())
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert predictor(pipe) == predictor(photo)
    with pytest.raises(UserError, match=r"upload: read\(\) gives coroutine, not bytes; await it and pass the bytes"):
        predictor(Upload())


def test_addresses(predictor, photo):
    expected = predictor(photo)
    for same in (f"file://{photo}", f"file:{photo}", f"FILE://localhost{photo}", photo.as_uri()):
        assert predictor(same) == expected
    for address, message in {
        "https://example.org/a.jpg?w=1": "is on the web, which is not read; download it first",
        "s3://bucket/a.jpg": "is in an object store; --engine ray reads it, or download it first",
        "hf://datasets/a/b.jpg": "is an address of an unknown kind",
        "data:image/png;base64,iVBORw0K": "decode it and pass the bytes",
    }.items():
        with pytest.raises(UserError, match=message):
            predictor(address)
    with pytest.raises(UserError, match=r"s3://bucket/best\.pt is in an object store; download it first"):
        load_predictor("s3://bucket/best.pt")


def test_scores_depend_on_the_picture_alone(predictor, pictures):
    singly = [predictor(picture) for picture in pictures]
    scale = predictor.scale.high - predictor.scale.low
    for batch_size, workers in ((1, 3), (16, 1), (16, 4), (5, 2)):
        several = list(predictor.score_many(pictures, batch_size, workers))
        assert several == list(predictor.score_many(pictures, batch_size, workers))
        for one, other in zip(singly, several, strict=True):
            assert abs(one.mos - other.mos) < 1e-5 * scale / 4
            assert one.dos == pytest.approx(other.dos, abs=1e-6)
    backwards = list(predictor.score_many(pictures[::-1], 16, 2))[::-1]
    assert [p.mos for p in backwards] == pytest.approx([p.mos for p in singly], abs=1e-5 * scale / 4)


def test_a_stream_is_read_no_further_than_is_needed(predictor, pictures):
    taken = []
    stream = (taken.append(1) or pictures[index % len(pictures)] for index in range(1000))
    scores = predictor.score_many(stream, batch_size=2, workers=1)
    next(scores)
    assert len(taken) < 10
    scores.close()


def test_a_stream_with_errors(predictor, photo, tmp_path):
    images = [photo, tmp_path / "missing.png", photo]
    first, error, last = predictor.score_many(images, errors="return")
    assert first == last
    assert isinstance(error, MissingFileError)
    with pytest.raises(MissingFileError, match=r"missing\.png does not exist"):
        list(predictor.score_many(images))
    with pytest.raises(UserError, match="allowed: raise, return"):
        list(predictor.score_many(images, errors="ignore"))
    for numbers in ({"batch_size": 0}, {"workers": -5}):
        with pytest.raises(UserError, match="are 1 or more"):
            list(predictor.score_many(images, **numbers))


def test_a_damaged_picture_of_pil_is_an_error_in_its_place(predictor, photo, tmp_path):
    Image.open(photo).save(tmp_path / "whole.png", compress_level=0)
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    first, error, last = predictor.score_many([photo, Image.open(tmp_path / "cut.png"), photo], errors="return")
    assert first == last
    assert "the image cannot be decoded" in str(error)


def test_a_backbone_that_cannot_take_a_size_says_so(predictor, pictures, monkeypatch):
    monkeypatch.setattr(predictor.fused, "forward", Mock(side_effect=AssertionError("size must be 32")))
    full = replace(predictor.preprocess, views=lambda _image: [torch.zeros(3, 64, 32)])
    with pytest.raises(AssertionError):
        predictor(pictures[0])
    predictor.preprocess = full
    with pytest.raises(UserError, match=r"cannot take 32x64 pixels \(size must be 32\); use release"):
        predictor(pictures[0])


def test_preprocessing_by_hand(checkpoint, pictures):
    picture = pictures[3]
    by_name = {
        name: load_predictor(checkpoint, device="cpu", preprocess=name)
        for name in ("release", "release-224", "five-crop", "full")
    }
    model = by_name["release"].model

    def dos(resize, crop, image=picture):
        views = build_test_transform(TransformSettings(resize=resize, crop=crop))(image)[None]
        with torch.inference_mode():
            return model(views)[0].double().numpy()

    assert by_name["release"](picture).dos == pytest.approx(dos(40, 32), abs=1e-6)
    assert by_name["release-224"](picture).dos == pytest.approx(dos(224, 224), abs=1e-6)
    square = picture.resize((40, 40), Image.Resampling.BILINEAR)
    boxes = [(4, 4), (0, 0), (8, 0), (0, 8), (8, 8)]
    crops = [dos(32, 32, square.crop((left, top, left + 32, top + 32))) for left, top in boxes]
    assert by_name["five-crop"](picture).dos == pytest.approx(np.mean(crops, axis=0), abs=1e-6)
    full = by_name["full"].prepare(picture).views
    assert full.shape == (1, 3, 64, 32)  # a picture of 120 x 200, at about 40 * 40 pixels
    assert by_name["full"](Image.new("RGB", (1, 20_000))).mos > 0
    ids = {predictor.preprocess.id for predictor in by_name.values()}
    assert ids == {"release@40x32", "release-224@224", "five-crop@40x32", "full@40"}
    with pytest.raises(UserError, match="did you mean 'five-crop'"):
        load_predictor(checkpoint, preprocess="five-corp")


def test_differentiable_reaches_the_pixels_and_agrees(checkpoint):
    predictor = load_predictor(checkpoint, device="cpu")
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 6, 8, generator=generator)
    pixels = torch.nn.functional.interpolate(coarse, (96, 128), mode="bilinear").requires_grad_()
    mos = predictor.differentiable(pixels)
    assert mos.shape == (2,)
    expected = [prediction.mos for prediction in predictor(list(pixels.detach()))]
    assert mos.detach().numpy() == pytest.approx(expected, abs=0.02 * 100)
    (gradient,) = torch.autograd.grad(mos.sum(), pixels)
    assert gradient.isfinite().all()
    assert (gradient.flatten(1).abs().sum(1) > 0).all()
    step = 1e-3 * gradient / gradient.norm()
    moved = predictor.differentiable(pixels + step).sum() - predictor.differentiable(pixels - step).sum()
    assert moved.item() == pytest.approx(2e-3 * gradient.norm().item(), rel=0.05)
    assert all(parameter.grad is None for parameter in predictor.model.parameters())
    with pytest.raises(UserError, match=r"got torch.uint8 \(2, 3, 4, 4\)"):
        predictor.differentiable(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))


def test_precision_lowers_the_scores_alone(checkpoint, pictures, monkeypatch):
    plain, lowered = (load_predictor(checkpoint, device="cpu", precision=name) for name in ("fp32", "bf16"))
    width = plain.scale.high - plain.scale.low
    moved = [abs(one.mos - other.mos) for one, other in zip(plain(pictures), lowered(pictures), strict=True)]
    assert 0 < max(moved) < 0.005 * width
    assert (plain.precision, lowered.precision) == ("fp32", "bf16")
    pixels = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain.differentiable(pixels), lowered.differentiable(pixels))
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert load_predictor(checkpoint, device="cpu", precision="auto").precision == "bf16(linear)"


def test_a_lowered_network_that_overflows_names_the_precision(checkpoint, photo, monkeypatch):
    predictor = load_predictor(checkpoint, device="cpu", precision="bf16")
    monkeypatch.setattr(predictor, "fused", lambda views: torch.full((len(views), 5), float("nan")))
    with pytest.raises(UserError, match="not finite; try --precision fp32"):
        predictor(photo)


def test_newest_is_the_newest_best(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    newer = tmp_path / "checkpoint" / "b" / "split_02" / "best.pt"
    newer.parent.mkdir(parents=True)
    newer.write_bytes(checkpoint.read_bytes())
    os.utime(checkpoint, (1, 1))
    assert newest_best(Path("checkpoint")).resolve() == newer
    assert load_predictor("newest").checkpoint == Path("checkpoint/b/split_02/best.pt")


def test_no_run_yet_names_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError, match=r"no run with a best\.pt .*`python main\.py` trains the demo"):
        load_predictor("newest")


@pytest.mark.slow
def test_release_checkpoint_scores_with_a_stated_scale(release_checkpoint, photo):
    with pytest.raises(UserError, match="contains a network without its rating scale"):
        load_predictor(release_checkpoint)
    predictor = load_predictor(release_checkpoint, device="cpu", scale=ACR)
    torch.manual_seed(1)
    model = build_model().eval()
    with torch.inference_mode():
        expected = model(build_test_transform(TransformSettings())(Image.open(photo))[None])
    prediction = predictor(photo)
    assert prediction.dos == pytest.approx(expected[0].tolist(), abs=1e-6)
    for option in ({"scale": "acr"}, {"config": ROOT / "configs" / "koniq10k.yaml"}):
        assert load_predictor(release_checkpoint, device="cpu", **option)(photo) == prediction


def test_config_of_a_release_checkpoint_sets_the_transform(release_checkpoint, photo):
    settings = {"transform": {"resize": 224, "crop": 224}, "scale": SETTINGS["scale"]}
    predictor = load_predictor(release_checkpoint, device="cpu", config=config_from_dict(settings, "test"))
    assert predictor.prepare(photo).views.shape == (1, 3, 224, 224)
    assert predictor(photo).scale.high == 100


def test_foreign_weights_are_no_release_checkpoint(tmp_path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    with pytest.raises(UserError, match="no known kind"):
        load_predictor(tmp_path / "linear.pt")


def test_a_network_gone_wrong_gives_no_score(checkpoint, photo):
    content = torch.load(checkpoint, weights_only=True)
    for name, weights in content["model"].items():
        if name.startswith("algorithmic."):
            weights.fill_(3e38)  # finite, but not what follows from it
    save_checkpoint(checkpoint, content)
    with pytest.raises(UserError, match="predicts values that are not finite"):
        load_predictor(checkpoint, device="cpu")(photo)


def test_own_checkpoint_refuses_another_scale(checkpoint):
    with pytest.raises(UserError, match="already contains its rating scale and config"):
        load_predictor(checkpoint, scale=ACR)


def test_weights_of_half_precision_are_read_as_float32(checkpoint, photo):
    expected = load_predictor(checkpoint, device="cpu")(photo)
    content = torch.load(checkpoint, weights_only=True)
    content["model"] = {name: x.half() if x.is_floating_point() else x for name, x in content["model"].items()}
    save_checkpoint(checkpoint, content)
    predictor = load_predictor(checkpoint, device="cpu")
    assert {parameter.dtype for parameter in predictor.model.parameters()} == {torch.float32}
    assert predictor(photo).mos == pytest.approx(expected.mos, abs=0.1)


@pytest.mark.parametrize(
    ("text", "scale"),
    [
        ("acr", ACR),
        ("1,5:1,2,3,4,5", ACR),
        ("0,100", RatingScale(0, 100, (10, 30, 50, 70, 90))),
        ("0,5", RatingScale(0, 5, (0.5, 1.5, 2.5, 3.5, 4.5))),
        ("0,10:2,8", RatingScale(0, 10, (2, 8))),
        ("0,100:lower", RatingScale(0, 100, (10, 30, 50, 70, 90), higher_is_better=False)),
        ("0,1:0.16666666666666666,0.5", RatingScale(0, 1, (1 / 6, 0.5))),
        ("1000000,1000001:1000000.5,1000001", RatingScale(1e6, 1e6 + 1, (1e6 + 0.5, 1e6 + 1))),
        ("1,5:1.4,2.2,3,3.8,4.6:lower", RatingScale(1, 5, (1.4, 2.2, 3, 3.8, 4.6), higher_is_better=False)),
    ],
)
def test_scales_in_words(text, scale):
    assert parse_scale(text) == parse_scale(scale_text(scale)) == scale


@pytest.mark.parametrize("text", ["five", "1", "1,2,3", "0,100:a", "5,1", "", ":lower"])
def test_what_is_no_scale(text):
    with pytest.raises(UserError, match="scale"):
        parse_scale(text)


def test_other_architecture_is_one_clear_line(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    content["config"]["model"]["backbone"] = "cvt_13"
    save_checkpoint(checkpoint, content)
    with pytest.raises(UserError, match=r"does not fit this network: of \d+ names, \d+ missing"):
        load_predictor(checkpoint)
    content["config"]["model"]["backbone"] = "cvt_nano"
    content["config"]["scale"]["bin_centers"] = [10, 90]
    save_checkpoint(checkpoint, content)
    with pytest.raises(UserError, match=r"is \(5, 224\) there, \(2, 224\) here"):
        load_predictor(checkpoint)


def test_backbone_weights_are_no_network(tmp_path):
    official = to_official(build_model().state_dict())
    cvt = {name.removeprefix("net."): tensor for name, tensor in official.items() if name.startswith("net.stage")}
    torch.save(cvt, tmp_path / "cvt.pth")
    with pytest.raises(UserError, match="contains a backbone, not a trained RichIQA"):
        load_predictor(tmp_path / "cvt.pth", scale=ACR)
