"""Windows over a volume: what comes back is what the network said, wherever the windows lay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ai_nodes.ops.blending import CardBlend, blend_on
from ai_nodes.ops.device import CPU, Budget, Device
from ai_nodes.ops.infer import predict, predict_ensemble
from ai_nodes.ops.runtimes import open_network
from ai_nodes.ops.windows import Window, WindowSettings
from dicom_services.errors import InputError
from tests.networks import Constant, Greedy, small_unet, smoothing

PLAIN = WindowSettings(window=(16, 24, 16), activation="none", batch=3)


def opened(module):
    return open_network(module, device=CPU)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def untiled(module, volume):
    with torch.inference_mode():
        return module(torch.from_numpy(volume)[None])[0].numpy()


@pytest.mark.parametrize("mirrors", ["", "i", "kj", "kji"])
@pytest.mark.parametrize("shape", [(37, 50, 41), (16, 24, 16), (5, 30, 7), (1, 1, 1)])
def test_the_identity_returns_the_volume_exactly(shape, mirrors):
    volume = noise(2, *shape)
    settings = replace(PLAIN, mirrors=mirrors)
    assert np.array_equal(predict(opened(nn.Identity()), volume, settings).values, volume)


def test_a_constant_blends_to_the_constant_exactly():
    said = predict(opened(Constant(0.1, -3.7)), noise(1, 33, 49, 21), PLAIN).values
    assert (said[0] == np.float32(0.1)).all()
    assert (said[1] == np.float32(-3.7)).all()


def test_overlapping_windows_are_weighted_by_distance_from_their_middle():
    class FirstVoxel(nn.Module):
        def forward(self, x):
            return x[:, :, :, :, :1].expand(x.shape)

    # Two windows of 4 along i over 0..5, first voxels 0 and 2; Gaussian of sigma 4 / 8.
    volume = np.broadcast_to(np.arange(6, dtype=np.float32), (1, 1, 1, 6)).copy()
    settings = WindowSettings(window=(1, 1, 4), activation="none")
    said = predict(opened(FirstVoxel()), volume, settings).values[0, 0, 0]
    near, far = np.exp(-0.5 * (0.5 / 0.5) ** 2), np.exp(-0.5 * (1.5 / 0.5) ** 2)
    assert said[[0, 1, 4, 5]] == pytest.approx([0.0, 0.0, 2.0, 2.0])
    assert said[2] == pytest.approx(2.0 * far / (near + far), abs=1e-6)
    assert said[3] == pytest.approx(2.0 * near / (near + far), abs=1e-6)


def test_a_linear_filter_far_from_window_borders_is_that_of_the_whole():
    # It sees one voxel; a voxel that is in no window's rim, or in the volume's own, is exact.
    network = smoothing(1)
    volume = noise(1, 16, 16, 30)
    settings = WindowSettings(window=(16, 16, 16), overlap=0.0, activation="none")
    wrong = np.abs(predict(opened(network), volume, settings).values - untiled(network, volume))
    assert wrong[..., :13].max() < 1e-5
    assert wrong[..., 17:].max() < 1e-5
    assert wrong[..., 13:17].max() > 1e-2


def test_a_window_that_sees_all_there_is_gives_the_untiled_result_everywhere():
    network = smoothing(2)
    volume = noise(1, 13, 17, 16)
    settings = WindowSettings(window=(16, 24, 16), activation="none")
    assert predict(opened(network), volume, settings).values == pytest.approx(
        untiled(network, volume), abs=1e-4
    )


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_batch_does_not_change_the_answer(batch):
    network, volume = opened(small_unet()), noise(1, 30, 36, 20)
    one = predict(network, volume, replace(PLAIN, window=(16, 16, 16), batch=1)).values
    many = predict(network, volume, replace(PLAIN, window=(16, 16, 16), batch=batch)).values
    assert many == pytest.approx(one, abs=1e-5)


def test_turning_the_volume_turns_the_answer_of_a_network_that_turns_with_it():
    # The same windows in the opposite order.
    network, volume = opened(nn.LeakyReLU(0.1)), noise(1, 21, 30, 19)
    settings = replace(PLAIN, window=(8, 8, 8))
    plain = predict(network, volume, settings).values
    turned = predict(network, np.ascontiguousarray(volume[:, ::-1, :, ::-1]), settings).values
    assert turned[:, ::-1, :, ::-1] == pytest.approx(plain, abs=1e-6)


def test_mirrors_change_nothing_where_the_network_does_not_care():
    network, volume = nn.Conv3d(1, 2, 3, padding=1), noise(1, 20, 30, 18)
    weight = network.weight.data
    for axis in (2, 3, 4):
        weight += weight.flip(axis)
    plain = predict(opened(network), volume, PLAIN).values
    mirrored = predict(opened(network), volume, replace(PLAIN, mirrors="kji"))
    assert mirrored.values == pytest.approx(plain, abs=1e-5)
    assert mirrored.report.windows % 8 == 0


def test_mirrors_are_the_mean_over_mirrored_volumes():
    network, volume = smoothing(1), noise(1, 16, 24, 16)
    expected = np.mean(
        [
            np.flip(untiled(network, np.flip(volume, axes).copy()), axes)
            for axes in ((), (1,), (3,), (1, 3))
        ],
        axis=0,
    )
    said = predict(opened(network), volume, replace(PLAIN, mirrors="ki")).values
    assert said == pytest.approx(expected, abs=1e-4)


def test_an_ensemble_is_the_mean_of_its_members_and_holds_one_at_a_time():
    volume = noise(1, 20, 26, 18)
    settings = WindowSettings(window=(16, 16, 16))
    alone = [predict(opened(small_unet(seed)), volume, settings).values for seed in (1, 2, 3)]
    open_now = []

    def member(seed):
        network = opened(small_unet(seed))
        open_now.append(network)
        assert len(open_now) == 1

        def close():
            open_now.remove(network)

        network.close = close
        return network

    members = [lambda seed=seed: member(seed) for seed in (1, 2, 3)]
    together = predict_ensemble(members, volume, settings)
    assert together.values == pytest.approx(np.mean(alone, axis=0), abs=1e-6)
    assert together.report.members == 3
    assert together.report.windows == 3 * (2 * 3 * 2)
    assert not open_now


def test_probabilities_are_the_softmax_or_sigmoid_of_the_logits():
    volume = noise(1, 16, 16, 16)
    logits = [1.0, -2.0, 90.0]
    softmax = predict(opened(Constant(*logits)), volume, WindowSettings(window=(16,) * 3))
    sigmoid = predict(
        opened(Constant(*logits)), volume, WindowSettings(window=(16,) * 3, activation="sigmoid")
    )
    assert softmax.values[:, 3, 4, 5] == pytest.approx([0.0, 0.0, 1.0], abs=1e-6)
    assert sigmoid.values[:, 3, 4, 5] == pytest.approx([0.731059, 0.119203, 1.0], abs=1e-6)
    assert (softmax.labels() == 2).all()
    assert [mask.all() for mask in sigmoid.masks()] == [True, False, True]


def test_windows_of_air_are_not_looked_at_and_tissue_stays_the_same():
    volume = np.full((1, 24, 24, 96), -1000.0, np.float32)
    volume[..., 70:80] = noise(1, 24, 24, 10)
    network = opened(small_unet())
    settings = WindowSettings(window=(16, 16, 16))
    whole = predict(network, volume, settings)
    thrifty = predict(network, volume, replace(settings, air_at_most=-500.0))
    tissue = volume[0] > -500.0
    assert np.array_equal(thrifty.values[:, tissue], whole.values[:, tissue])
    assert thrifty.report.skipped > 0.5 * whole.report.windows
    assert (thrifty.labels()[..., :50] == 0).all()
    assert (thrifty.values[0, :, :, :50] == 1.0).all()


def test_a_mask_of_tissue_says_the_same_as_a_threshold():
    volume = np.zeros((1, 20, 20, 64), np.float32)
    volume[..., 40:50] = 1.0
    network, settings = opened(small_unet()), WindowSettings(window=(16, 16, 16))
    by_mask = predict(network, volume, settings, tissue=volume[0] > 0.5)
    by_threshold = predict(network, volume, replace(settings, air_at_most=0.5))
    assert np.array_equal(by_mask.values, by_threshold.values)
    assert by_mask.report.skipped == by_threshold.report.skipped > 0


def test_nothing_but_air_is_the_first_class_everywhere():
    said = predict(
        opened(Constant(0.0, 5.0)),
        np.zeros((1, 20, 20, 20), np.float32),
        WindowSettings(window=(16, 16, 16), air_at_most=0.0),
    )
    assert (said.labels() == 0).all()
    assert said.report.windows == 0


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError, MemoryError, RuntimeError])
def test_too_little_memory_takes_a_smaller_window_and_says_so(error):
    network = Greedy(16**3, error)
    volume = noise(1, 40, 40, 40)
    settings = WindowSettings(window=(32, 32, 32), batch=2, activation="none")
    said = predict(opened(network), volume, settings)
    assert np.array_equal(said.values, volume)
    assert said.report.codes == ("smaller_window",)
    assert said.report.window == (16, 16, 16)
    assert [shape[0] for shape in network.tried[:2]] == [2, 1]


def test_fewer_windows_at_once_are_nothing_to_be_told():
    said = predict(
        opened(Greedy(16**3, MemoryError)),
        noise(1, 20, 20, 20),
        WindowSettings(window=(16, 16, 16), batch=4, activation="none"),
    )
    assert said.report.codes == ()


def test_a_network_of_one_batch_size_keeps_it_in_a_smaller_window():
    greedy = Greedy(2 * 16**3, MemoryError)
    network = opened(greedy)
    network.batch, network.whole_batches = 2, True
    volume = noise(1, 40, 40, 40)
    said = predict(network, volume, WindowSettings(window=(32, 32, 32), activation="none"))
    assert np.array_equal(said.values, volume)
    assert {shape[0] for shape in greedy.tried} == {2}
    assert said.report.codes == ("smaller_window",)


def test_when_no_window_is_small_enough_the_study_is_refused():
    with pytest.raises(InputError, match="out_of_memory"):
        predict(
            opened(Greedy(8**3, torch.cuda.OutOfMemoryError)),
            noise(1, 20, 20, 20),
            WindowSettings(window=(32, 32, 32)),
        )


def test_a_result_beyond_the_budget_is_refused_before_it_is_made():
    with pytest.raises(InputError, match="out_of_memory"):
        predict(
            opened(Constant(*range(100))),
            noise(1, 32, 32, 32),
            WindowSettings(window=(16, 16, 16)),
            budget=Budget(1 << 20),
        )


def test_another_mistake_of_the_network_is_not_taken_for_memory():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        predict(opened(Broken()), noise(1, 16, 16, 16), WindowSettings(window=(16, 16, 16)))


@pytest.mark.parametrize("answer", [float("nan"), float("inf")])
def test_an_answer_that_is_not_finite_is_refused(answer):
    with pytest.raises(InputError, match="model_output"):
        predict(opened(Constant(0.0, answer)), noise(1, 16, 16, 16), PLAIN)


def test_an_answer_on_another_grid_is_refused():
    with pytest.raises(InputError, match="model_output"):
        predict(opened(nn.MaxPool3d(2)), noise(1, 16, 24, 16), PLAIN)


def test_what_is_no_float_volume_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="float32"):
        predict(opened(nn.Identity()), np.zeros((4, 4, 4), np.float32), PLAIN)
    with pytest.raises(ValueError, match="members"):
        predict_ensemble([], noise(1, 4, 4, 4), PLAIN)


class FullCard:
    """What the engine sees of a card without memory: nothing that it is asked succeeds."""

    precision, runtime, window, batch, whole_batches = "f32", "torch", None, None, False
    device, budget = Device("cuda"), Budget(1 << 30)

    def __init__(self, module):
        self._twin = opened(module)
        self.asked = []

    def blend(self, volume, settings, budget):
        return blend_on(CPU, volume, settings, budget)

    def run(self, batch):
        self.asked.append(batch.shape[2:])
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    def on_cpu(self):
        return self._twin.on_cpu()


def test_a_full_card_leaves_the_work_to_the_processor_and_says_so():
    volume, card = noise(1, 40, 40, 40), FullCard(nn.Identity())
    settings = WindowSettings(window=(32, 32, 32), activation="none")
    said = predict(card, volume, settings)
    assert np.array_equal(said.values, volume)
    assert said.report.codes == ("cpu_fallback",)
    assert said.report.device == "cpu"
    assert said.report.window == (32, 32, 32)
    assert card.asked == [(32, 32, 32), (16, 16, 16)]


def test_where_the_processor_lacks_memory_too_both_are_told():
    card = FullCard(Greedy(16**3, MemoryError))
    settings = WindowSettings(window=(32, 32, 32), activation="none")
    said = predict(card, noise(1, 40, 40, 40), settings)
    assert said.report.codes == ("cpu_fallback", "smaller_window")
    assert [one.value for one in said.report.warnings()] == ["cpu_fallback", "smaller_window"]
    # LO in DICOM.
    assert all(len(one.meaning) <= 64 for one in said.report.warnings())
    with pytest.raises(InputError, match="out_of_memory"):
        predict(FullCard(Greedy(8, MemoryError)), noise(1, 40, 40, 40), settings)


def test_a_network_moves_to_the_processor_for_one_prediction():
    network = opened(nn.Identity())
    with network.on_cpu() as twin:
        assert twin.device == CPU
        assert np.array_equal(twin.run(noise(1, 1, 2, 2, 2)), noise(1, 1, 2, 2, 2))


@pytest.mark.parametrize("budget", [Budget(1 << 30), Budget(1000)])
@pytest.mark.parametrize("activation", ["none", "softmax", "sigmoid"])
def test_the_blend_of_a_card_is_that_of_the_processor(activation, budget):
    """Torch tensors do the same on either; where the budget is small, the mean is the host's."""

    class AsOnCard:
        def __init__(self, network):
            self._network = network

        def __getattr__(self, name):
            return getattr(self._network, name)

        def run(self, batch):
            return torch.from_numpy(self._network.run(batch.numpy()))

        def blend(self, volume, settings, _budget):
            return CardBlend(volume, settings, budget, CPU)

    volume = np.zeros((2, 20, 26, 40), np.float32)
    volume[..., 25:] = noise(2, 20, 26, 15)
    network = opened(small_unet(channels=2))
    settings = WindowSettings(
        window=(16, 16, 16), activation=activation, mirrors="ji", batch=3, air_at_most=0.0
    )
    there = predict(AsOnCard(network), volume, settings)
    here = predict(network, volume, settings)
    assert there.values == pytest.approx(here.values, abs=1e-5)
    assert here.report.skipped > 0


def test_the_blend_of_a_card_refuses_what_is_not_finite():
    blend = CardBlend(noise(1, 4, 4, 4), WindowSettings(window=(4, 4, 4)), Budget(1 << 20), CPU)
    blend.fold(torch.full((1, 1, 4, 4, 4), torch.nan), [Window((slice(0, 4),) * 3, ())])
    with pytest.raises(InputError, match="model_output"):
        blend.result((slice(0, 4),) * 3)
