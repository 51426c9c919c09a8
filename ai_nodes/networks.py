"""A plain 3D U-Net in torch, for pipelines that bring their own weights, tests and measurements."""

from __future__ import annotations

import torch
from torch import nn


class UNet(nn.Module):
    """Encoder and decoder of two 3x3x3 convolutions a level, instance norm, leaky ReLU.

    Parameters
    ----------
    channels, classes : int
    features : tuple of int
        Of each level; every level below the first halves the grid.

    References
    ----------
    Cicek O et al. MICCAI 2016 (3D U-Net); Isensee F et al. Nat Methods 2021;18:203-211, Online
    Methods, "Network architecture" (instance norm, leaky ReLU, strided and transposed convolution).
    """

    def __init__(
        self, channels: int = 1, classes: int = 3, features: tuple[int, ...] = (8, 16, 32, 64, 128)
    ) -> None:
        super().__init__()
        above = (channels, *features[:-1])
        self.down = nn.ModuleList(
            _level(into, out, 1 if at == 0 else 2)
            for at, (into, out) in enumerate(zip(above, features, strict=True))
        )
        pairs = list(zip(features[1:], features[:-1], strict=True))[::-1]
        self.up = nn.ModuleList(nn.ConvTranspose3d(deep, wide, 2, 2) for deep, wide in pairs)
        self.join = nn.ModuleList(_level(2 * wide, wide, 1) for _, wide in pairs)
        self.head = nn.Conv3d(features[0], classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, k, j, i) to logits (n, classes, k, j, i)."""
        kept = []
        for level in self.down:
            x = level(x)
            kept.append(x)
        for up, join, skip in zip(self.up, self.join, kept[-2::-1], strict=True):
            x = join(torch.cat((up(x), skip), 1))
        logits: torch.Tensor = self.head(x)
        return logits


def seeded(network: nn.Module, seed: int) -> nn.Module:
    """The network with weights that depend on the seed alone (He initialisation)."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=0.01, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def _level(into: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(into, out, 3, stride, 1),
        nn.InstanceNorm3d(out, affine=True),
        nn.LeakyReLU(0.01, inplace=True),
        nn.Conv3d(out, out, 3, 1, 1),
        nn.InstanceNorm3d(out, affine=True),
        nn.LeakyReLU(0.01, inplace=True),
    )
