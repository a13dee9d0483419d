"""Parameter names: translation between ours, those of the RichIQA release, and two sources of CvT weights.

Stages count from 0 in our names and in those of the release, and from 1 in the config.
"""

import re
from collections.abc import Iterable
from functools import cache

import torch
from torch import Tensor

from models import build_model
from utils.errors import SHOWN, UserError, shortened

StateDict = dict[str, Tensor]

DATA_PARALLEL_PREFIX = "module."

# (ours, release): prefixes of names
_HEAD_NAMES = (
    ("algorithmic.", "layers."),
    ("memory.attention.mask.", "fc."),
    ("memory.attention.reduce.", "conv_transform."),
    ("memory.short.summary.", "gcn.conv_global."),
    ("memory.short.norm.", "gcn.bn_global."),
    ("memory.short.mix.", "gcn.conv1."),
    ("memory.long.nodes.", "gcn.long_adj.0."),
    ("memory.long.channels.", "gcn.long_weight.0."),
    ("memory.long.gate_v.", "gcn.fc_eq3_w."),
    ("memory.long.gate_a.", "gcn.fc_eq3_u."),
    ("memory.long.gate_s.", "gcn.fc_eq4_w."),
    ("memory.long.gate_w.", "gcn.fc_eq4_u."),
)
OURS, CVT, PORT = range(3)  # columns of the tables below: our names, CvT's, those of the Hugging Face port
_STAGES = ("stages.", "stage", "encoder.stages.")  # before the number of a stage
_BLOCKS = ("blocks.", "blocks.", "layers.")  # before the number of a block
# inside a stage and inside a block
_STAGE_NAMES = (
    ("embedding.conv.", "patch_embed.proj.", "embedding.convolution_embeddings.projection."),
    ("embedding.norm.", "patch_embed.norm.", "embedding.convolution_embeddings.normalization."),
    ("cls_token", "cls_token", "cls_token"),
)
_PORT_CONV = "attention.attention.convolution_projection_"
_BLOCK_NAMES = (
    *(
        (
            f"attention.conv_{x}.{ours}.",
            f"attn.conv_proj_{x}.{cvt}.",
            f"{_PORT_CONV}{port}.convolution_projection.{name}.",
        )
        for x, port in (("q", "query"), ("k", "key"), ("v", "value"))
        for ours, cvt, name in (("conv", "conv", "convolution"), ("norm", "bn", "normalization"))
    ),
    *(
        (f"attention.linear_{x}.", f"attn.proj_{x}.", f"attention.attention.projection_{port}.")
        for x, port in (("q", "query"), ("k", "key"), ("v", "value"))
    ),
    ("attention.linear_out.", "attn.proj.", "attention.output.dense."),
    ("mlp.fc1.", "mlp.fc1.", "intermediate.dense."),
    ("mlp.fc2.", "mlp.fc2.", "output.dense."),
    ("norm1.", "norm1.", "layernorm_before."),
    ("norm2.", "norm2.", "layernorm_after."),
)
# stored by the release, never used by it; K bins, d the width of the last stage
UNUSED = {
    "mask_mat": ("K", "K"),
    "last_linear.weight": ("K", 256, 1),
    "last_linear.bias": ("K",),
    "net.norm.weight": ("d",),
    "net.norm.bias": ("d",),
    "net.head.weight": (1000, "d"),
    "net.head.bias": (1000,),
}
# the release stores these two linear layers as 1x1 convolutions of a map
_AS_CONV2D = ("fc.weight", "conv_transform.weight")


def from_official(state_dict: StateDict) -> StateDict:
    """Rename the parameters of the release to our names.

    Args:
        state_dict: State dict saved by the release, with or without `module.`; its seven unused tensors may be absent.

    Returns:
        State dict for `build_model().load_state_dict`, strict. Tensors are not copied.

    Raises:
        UserError: Names are missing or unexpected.
    """
    plain = {name.removeprefix(DATA_PARALLEL_PREFIX): tensor for name, tensor in state_dict.items()}
    used = {name: tensor for name, tensor in plain.items() if name not in UNUSED}
    compare_names(used, [_to_official_name(name) for name in _release_names()], "release checkpoint")
    return {
        _from_official_name(name): tensor[..., 0, 0] if name in _AS_CONV2D and tensor.shape[2:] == (1, 1) else tensor
        for name, tensor in used.items()
    }


def to_official(state_dict: StateDict, complete: bool = False) -> StateDict:
    """Rename our parameters to the names of the release.

    Args:
        state_dict: State dict of a network with a CvT backbone, or a part of it; with or without `module.`.
        complete: Whether to add the seven tensors that the release stores but never uses, as zeros, so that the
            release can load the result strictly. Needs the whole network.

    Raises:
        UserError: A name has no counterpart in the release, as with a timm backbone; or, with `complete`, the state
            dict is not that of the whole network.
    """
    official = {}
    for name, tensor in state_dict.items():
        renamed = _to_official_name(name.removeprefix(DATA_PARALLEL_PREFIX))
        official[renamed] = tensor[:, :, None, None] if renamed in _AS_CONV2D else tensor
    if complete:
        compare_names(official, [_to_official_name(name) for name in _release_names()], "the state dict to complete")
        sizes = {"K": len(official["layers.1.bias"]), "d": official["net.stage2.cls_token"].shape[-1]}
        for name, shape in UNUSED.items():
            official[name] = torch.zeros([sizes.get(size, size) for size in shape])
    return official


def from_cvt(state_dict: StateDict) -> StateDict:
    """Rename the parameters of a CvT .pth file, such as `stage2.blocks.0.attn.proj.weight`, to our names.

    The classifier (`norm.*`, `head.*`) is dropped.
    """
    return _translate_backbone(state_dict, CVT, dropped=("norm.", "head."))


def from_huggingface(state_dict: StateDict) -> StateDict:
    """Rename the parameters of the Hugging Face port, with or without classifier, to our names."""
    plain = {name.removeprefix("cvt."): tensor for name, tensor in state_dict.items()}
    return _translate_backbone(plain, PORT, dropped=("layernorm.", "classifier."))


def compare_names(found: Iterable[str], expected: Iterable[str], source: str) -> None:
    """Raise a UserError with the missing and the unexpected names, if there are any."""
    found, expected = set(found), set(expected)
    if found == expected:
        return
    problems = []
    for title, names in (("missing", expected - found), ("unexpected", found - expected)):
        if names:
            shown = ", ".join(shortened(name, SHOWN) for name in sorted(names)[:4]) + (
                ", ..." if len(names) > 4 else ""
            )
            problems.append(f"{len(names)} {title} ({shown})")
    raise UserError(f"{source} does not fit this network: of {len(expected)} names, {'; '.join(problems)}")


@cache
def _release_names() -> tuple[str, ...]:
    with torch.device("meta"):
        return tuple(build_model().state_dict())


def _to_official_name(name: str) -> str:
    for ours, theirs in _HEAD_NAMES:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    renamed = _rename_in_stage(name.removeprefix("backbone."), OURS, CVT) if name.startswith("backbone.") else None
    if renamed is None:
        raise UserError(f"parameter {name!r} has no counterpart in the release")
    return f"net.{renamed}"


def _from_official_name(name: str) -> str:
    for ours, theirs in _HEAD_NAMES:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return f"backbone.{_rename_in_stage(name.removeprefix('net.'), CVT, OURS)}"


def _rename_in_stage(name: str, source: int, target: int) -> str | None:
    """Translate the name of a backbone parameter between two columns of the tables; None if it is unknown."""
    match = re.match(rf"{re.escape(_STAGES[source])}(\d+)\.(?:{re.escape(_BLOCKS[source])}(\d+)\.)?", name)
    if match is None:
        return None
    stage, block = match.groups()
    rest = name[match.end() :]
    above = f"{_STAGES[target]}{stage}." + (f"{_BLOCKS[target]}{block}." if block else "")
    for row in _BLOCK_NAMES if block else _STAGE_NAMES:
        if rest.startswith(row[source]):
            return above + row[target] + rest.removeprefix(row[source])
    return None


def _translate_backbone(state_dict: StateDict, source: int, dropped: tuple[str, ...]) -> StateDict:
    kept = {name: tensor for name, tensor in state_dict.items() if not name.startswith(dropped)}
    ours = {name: _rename_in_stage(name, source, OURS) for name in kept}
    unknown = [name for name, renamed in ours.items() if renamed is None]
    if unknown:
        raise UserError(f"{len(unknown)} parameters are not of a CvT, such as {unknown[0]!r}")
    return {ours[name]: tensor for name, tensor in kept.items()}
