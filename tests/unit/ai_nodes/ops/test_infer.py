"""Windows over a volume: what comes back is what the network said, wherever the windows lay."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ai_nodes.ops.device import CPU
from ai_nodes.ops.infer import predict
from ai_nodes.ops.runtimes import open_network
from ai_nodes.ops.windows import WindowSettings

PLAIN = WindowSettings(window=(16, 24, 16), activation="none", batch=3)


@pytest.mark.parametrize("shape", [(37, 50, 41), (16, 24, 16), (5, 30, 7), (1, 1, 1)])
def test_the_identity_returns_the_volume_exactly(shape):
    volume = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    identity = open_network(torch.nn.Identity(), device=CPU)
    assert np.array_equal(predict(identity, volume, PLAIN).values, volume)
