"""Networks for tests: known answers, memory that ends, ONNX files good and bad."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from ai_nodes.networks import UNet, seeded


class Constant(nn.Module):
    """Says the same about every voxel."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = torch.tensor(values)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.values[None, :, None, None, None].expand(len(x), -1, *x.shape[2:])


class Greedy(nn.Module):
    """The identity until a window is larger than it has memory for."""

    def __init__(self, most_voxels: int, error: type[BaseException]) -> None:
        super().__init__()
        self.most_voxels, self.error, self.tried = most_voxels, error, []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.tried.append(tuple(x.shape))
        if x.numel() > self.most_voxels:
            raise self.error("CUDA out of memory. Tried to allocate 2.00 GiB")
        return x


def smoothing(radius: int) -> nn.Conv3d:
    """A random linear filter that sees `radius` voxels far."""
    filter_ = nn.Conv3d(1, 2, 2 * radius + 1, padding=radius, bias=False)
    nn.init.normal_(filter_.weight, generator=torch.Generator().manual_seed(3))
    return filter_


def small_unet(seed: int = 1, *, channels: int = 1) -> nn.Module:
    """A U-Net of three levels."""
    return seeded(UNet(channels, features=(4, 8, 16)), seed)


def as_onnx(network: nn.Module, path: Path, window: tuple[int, int, int], *, any_size=True) -> Path:
    """The network as a file, for any batch and size or for one."""
    axes = {"image": {0: "n", 2: "k", 3: "j", 4: "i"}} if any_size else None
    channels = next(network.parameters()).shape[1]
    with warnings.catch_warnings():
        # Both of torch: this exporter is the older of two, and sizes are checked while it traces.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        # Instance norm has no other mode than that of training.
        warnings.filterwarnings("ignore", ".*'instance_norm' is set to train=True", UserWarning)
        torch.onnx.export(
            network.eval(),
            (torch.zeros(1, channels, *window),),
            str(path),
            dynamo=False,
            opset_version=18,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes=axes,
        )
    return path
