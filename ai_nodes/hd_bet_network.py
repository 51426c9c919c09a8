"""The network of HD-BET, which tells the brain from everything else in a head MR.

The names of its parts are those of its published weights.

References
----------
Isensee F et al. Hum Brain Mapp 2019;40:4952-4964, 2.3 (architecture); code and weights at
https://github.com/MIC-DKFZ/HD-BET, v1, network_architecture.py, Apache-2.0.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import nn
from torch.nn import functional

_FILTERS: Final = 21
_SLOPE: Final = 0.01
_OUTER_SLOPE: Final = 0.1
"""Outside of the blocks; the published configuration reaches no further."""


class HdBetNetwork(nn.Module):
    """(n, 1, k, j, i) with mean 0 and deviation 1 to logits (n, 2, k, j, i); sides divide by 16."""

    def __init__(self, filters: int = _FILTERS) -> None:
        super().__init__()
        wide = [filters * 2**level for level in range(5)]
        self.init_conv = nn.Conv3d(1, wide[0], 3, padding=1)
        for level in range(5):
            self.add_module(f"context{level + 1}", _Context(wide[level]))
            if level < 4:
                self.add_module(f"down{level + 1}", _Down(wide[level], wide[level + 1]))
        self.bn_after_context5 = _InstanceNorm(wide[4])
        for step in range(4):
            deep, shallow = wide[4 - step], wide[3 - step]
            self.add_module(f"up{step + 1}", _Up(deep, shallow))
            if step < 3:
                self.add_module(f"loc{step + 1}", _Local(deep, shallow))
        # Of its training at coarser levels; present in the weights.
        self.loc2_seg = nn.Conv3d(wide[2], 2, 1, bias=False)
        self.loc3_seg = nn.Conv3d(wide[1], 2, 1, bias=False)
        self.end_conv_1 = nn.Conv3d(wide[1], wide[1], 3, padding=1)
        self.end_conv_1_bn = _InstanceNorm(wide[1])
        self.end_conv_2 = nn.Conv3d(wide[1], wide[1], 3, padding=1)
        self.end_conv_2_bn = _InstanceNorm(wide[1])
        self.seg_layer = nn.Conv3d(wide[1], 2, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One pass."""
        x = self.init_conv(x)
        skips = []
        for level in range(1, 5):
            skip, x = self.get_submodule(f"down{level}")(self.get_submodule(f"context{level}")(x))
            skips.append(skip)
        x = _leaky(self.bn_after_context5(self.get_submodule("context5")(x)), _OUTER_SLOPE)
        for step in range(1, 5):
            x = torch.cat((skips.pop(), self.get_submodule(f"up{step}")(x)), dim=1)
            if step < 4:
                x = self.get_submodule(f"loc{step}")(x)
        x = _leaky(self.end_conv_1_bn(self.end_conv_1(x)), _OUTER_SLOPE)
        x = _leaky(self.end_conv_2_bn(self.end_conv_2(x)), _OUTER_SLOPE)
        logits: torch.Tensor = self.seg_layer(x)
        return logits


class _InstanceNorm(nn.Module):
    """Of each image's own statistics, also in use; the kept ones are in the weights and unused."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.instance_norm(x, weight=self.weight, bias=self.bias)


class _Context(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn_1, self.bn_2 = _InstanceNorm(channels), _InstanceNorm(channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(_leaky(self.bn_1(x)))
        y = self.conv2(_leaky(self.bn_2(y)))
        return torch.add(x, y)


class _Down(nn.Module):
    def __init__(self, channels: int, deeper: int) -> None:
        super().__init__()
        self.bn = _InstanceNorm(channels)
        self.downsample = nn.Conv3d(channels, deeper, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = _leaky(self.bn(x))
        return x, self.downsample(x)


class _Up(nn.Module):
    def __init__(self, channels: int, shallower: int) -> None:
        super().__init__()
        self.upsample_conv = nn.Conv3d(channels, shallower, 3, padding=1)
        self.bn = _InstanceNorm(shallower)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.interpolate(x, scale_factor=2, mode="trilinear", align_corners=True)
        return _leaky(self.bn(self.upsample_conv(x)))


class _Local(nn.Module):
    def __init__(self, channels: int, shallower: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.bn_1 = _InstanceNorm(channels)
        self.conv2 = nn.Conv3d(channels, shallower, 1)
        self.bn_2 = _InstanceNorm(shallower)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = _leaky(self.bn_1(self.conv1(x)))
        return _leaky(self.bn_2(self.conv2(x)))


def _leaky(x: torch.Tensor, slope: float = _SLOPE) -> torch.Tensor:
    return functional.leaky_relu(x, slope)
