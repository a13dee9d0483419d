"""Names of parameters: ours, those of the RichIQA release, and the two sources of CvT weights.

The release counts stages from 0, as we do in names; in the config they count from 1.
"""

import re
from collections.abc import Iterable
from functools import cache

import torch
from torch import Tensor

from models import build_model
from utils.errors import UserError

StateDict = dict[str, Tensor]

DATA_PARALLEL_PREFIX = "module."

# (ours, release), innermost last; applied to the start of a name in turn
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
# (ours, CvT, Hugging Face port) inside a stage and inside a block
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
    """Parameters of the release under our names.

    Args:
        state_dict: As saved by the release, with or without `module.`; its seven unused tensors may be absent.

    Returns:
        What `build_model().load_state_dict` takes strictly. Tensors are not copied.

    Raises:
        UserError: A name is missing or left over.
    """
    plain = {name.removeprefix(DATA_PARALLEL_PREFIX): tensor for name, tensor in state_dict.items()}
    used = {name: tensor for name, tensor in plain.items() if name not in UNUSED}
    compare_names(used, [_to_official_name(name) for name in _release_names()], "release checkpoint")
    return {
        _from_official_name(name): tensor.flatten(1) if name in _AS_CONV2D else tensor for name, tensor in used.items()
    }


def to_official(state_dict: StateDict, complete: bool = False) -> StateDict:
    """Our parameters under the names of the release.

    Args:
        state_dict: Of any network of ours with a CvT backbone, or a part of it; with or without `module.`.
        complete: Also add the seven tensors which the release stores and never uses (as zeros), so that a strict load
            in the release succeeds. Needs the whole network.

    Raises:
        UserError: A name that the release has no counterpart for, such as a timm backbone's; or, with `complete`, a
            part or a variant of the network.
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
    """Backbone parameters of a CvT .pth file (names like `stage2.blocks.0.attn.proj.weight`) under our names.

    The classifier (`norm.*`, `head.*`) is dropped.
    """
    return _translate_backbone(state_dict, source=1, dropped=("norm.", "head."))


def from_huggingface(state_dict: StateDict) -> StateDict:
    """Backbone parameters of the Hugging Face port, a `CvtModel` or with a classifier, under our names."""
    plain = {name.removeprefix("cvt."): tensor for name, tensor in state_dict.items()}
    return _translate_backbone(plain, source=2, dropped=("layernorm.", "classifier."))


def compare_names(found: Iterable[str], expected: Iterable[str], source: str) -> None:
    """Raises a UserError that names what is missing and what is left over, if anything is."""
    found, expected = set(found), set(expected)
    if found == expected:
        return
    problems = []
    for title, names in (("missing", expected - found), ("left over", found - expected)):
        if names:
            shown = ", ".join(sorted(names)[:4]) + (", ..." if len(names) > 4 else "")
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
    renamed = _rename_in_stage(name, r"backbone\.stages\.(\d+)\.", r"blocks\.(\d+)\.", 0, 1)
    if renamed is None:
        raise UserError(f"parameter {name!r} has no counterpart in the release")
    return f"net.{renamed}"


def _from_official_name(name: str) -> str:
    for ours, theirs in _HEAD_NAMES:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    renamed = _rename_in_stage(name, r"net\.stage(\d+)\.", r"blocks\.(\d+)\.", 1, 0)
    return f"backbone.{renamed}"


def _rename_in_stage(name: str, stage_pattern: str, block_pattern: str, source: int, target: int) -> str | None:
    """A name inside a stage from column `source` to column `target` of the tables; None if it is not in them."""
    stage = re.match(stage_pattern, name)
    if stage is None:
        return None
    rest = name[stage.end() :]
    prefix = f"stage{stage[1]}." if target == 1 else f"stages.{stage[1]}."
    names = _STAGE_NAMES
    block = re.match(block_pattern, rest)
    if block is not None:
        rest = rest[block.end() :]
        prefix += f"blocks.{block[1]}."
        names = _BLOCK_NAMES
    for row in names:
        if rest.startswith(row[source]):
            return prefix + row[target] + rest.removeprefix(row[source])
    return None


def _translate_backbone(state_dict: StateDict, source: int, dropped: tuple[str, ...]) -> StateDict:
    stage_pattern, block_pattern = (
        (r"stage(\d+)\.", r"blocks\.(\d+)\.") if source == 1 else (r"encoder\.stages\.(\d+)\.", r"layers\.(\d+)\.")
    )
    ours, unknown = {}, []
    for name, tensor in state_dict.items():
        if name.startswith(dropped):
            continue
        renamed = _rename_in_stage(name, stage_pattern, block_pattern, source, 0)
        if renamed is None:
            unknown.append(name)
        else:
            ours[renamed] = tensor
    if unknown:
        raise UserError(f"{len(unknown)} names are none of CvT's, such as {unknown[0]!r}")
    return ours
