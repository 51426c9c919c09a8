"""A network over a whole volume: windows, mirrors and members, within the memory there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ai_nodes.ops.blending import Blend
from ai_nodes.ops.device import Budget, is_out_of_memory, release_memory
from ai_nodes.ops.runtimes import Network
from ai_nodes.ops.windows import Window, WindowSettings, mirrorings, padding, places
from dicom_services.domain.findings import Code
from dicom_services.errors import InputError

SMALLER_WINDOW: Final = "smaller_window"
CPU_FALLBACK: Final = "cpu_fallback"
WARNINGS: Final = {
    SMALLER_WINDOW: "Computed in smaller windows: memory was short",
    CPU_FALLBACK: "Computed on the processor: the card lacked memory",
}
PRIVATE: Final = "99RADLOOP"

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class InferenceReport:
    """How a prediction came about.

    Parameters
    ----------
    codes : tuple of str
        What the reader must be told: `smaller_window`, `cpu_fallback`.
    window : (k, j, i)
        That it was made with.
    windows, skipped : int
        Passes through the network, and windows of air that were not looked at.
    """

    codes: tuple[str, ...]
    device: str
    runtime: str
    precision: str
    window: tuple[int, int, int]
    windows: int
    skipped: int
    members: int = 1

    def warnings(self) -> tuple[Code, ...]:
        """The codes as a pipeline's observations say them."""
        return tuple(Code(code, PRIVATE, WARNINGS[code]) for code in self.codes)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """(classes, k, j, i) float32 on the volume's grid, and how it was made."""

    values: Array
    report: InferenceReport

    def labels(self) -> NDArray[np.uint8]:
        """(k, j, i): the class with the highest value, the first of equal ones."""
        best: NDArray[np.uint8] = np.argmax(self.values, axis=0).astype(np.uint8)
        return best

    def masks(self, threshold: float = 0.5) -> NDArray[np.bool_]:
        """(classes, k, j, i): where a class reaches the threshold, for classes that overlap."""
        return np.asarray(self.values >= threshold)


def predict(
    network: Network,
    volume: Array,
    settings: WindowSettings,
    *,
    budget: Budget | None = None,
    tissue: NDArray[np.bool_] | None = None,
) -> Prediction:
    """Ask a network about a volume, window by window.

    When memory is too little: fewer windows at once, a smaller window, the processor, in this
    order; the last two may change numbers and stand in the report.

    Parameters
    ----------
    volume : (channels, k, j, i) float32
        Normalised as the network was trained.
    budget : Budget or None
        Of the network's device; None takes the network's own.
    tissue : (k, j, i) bool or None
        Windows without any of it are not looked at; voxels that no window covers become the
        first class ("softmax") or zero.

    Raises
    ------
    InputError
        `out_of_memory` when no window is small enough, `model_output` when what comes back has
        another shape or is not finite.
    """
    if volume.ndim != 4 or volume.dtype != np.float32:
        raise ValueError("a volume is (channels, k, j, i) float32")
    settings = _fitted(network, settings)
    prediction = _fallen_back(network, volume, settings, budget or network.budget, tissue)
    if prediction is None and network.device.kind == "cuda":
        with network.on_cpu() as twin:
            prediction = _fallen_back(twin, volume, settings, twin.budget, tissue)
        if prediction is not None:
            codes = (CPU_FALLBACK, *prediction.report.codes)
            prediction = replace(prediction, report=replace(prediction.report, codes=codes))
    if prediction is None:
        raise InputError("out_of_memory", megabytes=(budget or network.budget).bytes >> 20)
    return prediction


def predict_ensemble(
    members: Sequence[Callable[[], Network]],
    volume: Array,
    settings: WindowSettings,
    *,
    tissue: NDArray[np.bool_] | None = None,
) -> Prediction:
    """Mean of what several networks say, after the activation; one is in memory at a time."""
    mean: Prediction | None = None
    for count, open_member in enumerate(members, 1):
        network = open_member()
        try:
            one = predict(network, volume, settings, tissue=tissue)
        finally:
            network.close()
        if mean is None:
            mean = one
            continue
        np.subtract(one.values, mean.values, out=one.values)
        one.values.__imul__(np.float32(1.0 / count))
        np.add(mean.values, one.values, out=mean.values)
        mean = Prediction(mean.values, _joined(mean.report, one.report))
    if mean is None:
        raise ValueError("an ensemble has members")
    return mean


def _joined(all_: InferenceReport, one: InferenceReport) -> InferenceReport:
    return replace(
        all_,
        codes=tuple(dict.fromkeys((*all_.codes, *one.codes))),
        windows=all_.windows + one.windows,
        skipped=all_.skipped + one.skipped,
        members=all_.members + 1,
    )


def _fitted(network: Network, settings: WindowSettings) -> WindowSettings:
    """The window and batch of a network that was exported for one."""
    return replace(
        settings,
        window=network.window or settings.window,
        batch=network.batch or settings.batch,
    )


def _fallen_back(
    network: Network,
    volume: Array,
    settings: WindowSettings,
    budget: Budget,
    tissue: NDArray[np.bool_] | None,
) -> Prediction | None:
    """A prediction with the first window that memory allows; None where none does."""
    asked = settings.window
    attempt: WindowSettings | None = settings
    while attempt is not None:
        try:
            prediction = _predict(network, volume, attempt, budget, tissue)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        else:
            codes = () if attempt.window == asked else (SMALLER_WINDOW,)
            return replace(prediction, report=replace(prediction.report, codes=codes))
        # Outside of the handler: its traceback holds what the try had allocated.
        release_memory(network.device)
        attempt = _smaller(network, attempt)
    return None


def _smaller(network: Network, settings: WindowSettings) -> WindowSettings | None:
    """What needs less memory and the network still takes; None where nothing does."""
    for candidate in (settings.smaller(), replace(settings, batch=1).smaller()):
        if candidate is not None and _fitted(network, candidate) != settings:
            return _fitted(network, candidate)
    return None


def _predict(
    network: Network,
    volume: Array,
    settings: WindowSettings,
    budget: Budget,
    tissue: NDArray[np.bool_] | None,
) -> Prediction:
    shape = (volume.shape[1], volume.shape[2], volume.shape[3])
    pads = padding(shape, settings.window)
    if any(map(any, pads)):
        volume = np.pad(volume, ((0, 0), *pads), constant_values=settings.pad_value)
        tissue = None if tissue is None else np.pad(tissue, pads)
    jobs, skipped = _jobs(volume, settings, tissue)
    values = _blended(network, volume, settings, budget, jobs).result(
        tuple(slice(before, before + size) for (before, _), size in zip(pads, shape, strict=True))
    )
    report = InferenceReport(
        codes=(),
        device=network.device.name,
        runtime=network.runtime,
        precision=network.precision,
        window=settings.window,
        windows=len(jobs),
        skipped=skipped,
    )
    return Prediction(values, report)


def _jobs(
    volume: Array, settings: WindowSettings, tissue: NDArray[np.bool_] | None
) -> tuple[list[Window], int]:
    """Every window with every mirroring, and how many windows hold nothing but air."""
    shape = (volume.shape[1], volume.shape[2], volume.shape[3])
    if tissue is None and settings.air_at_most is not None:
        tissue = np.asarray((volume > settings.air_at_most).any(axis=0))
    jobs: list[Window] = []
    skipped = 0
    for place in places(shape, settings):
        if tissue is not None and not tissue[place].any():
            skipped += 1
            continue
        jobs += [Window(place, mirrored) for mirrored in mirrorings(settings.mirrors)]
    return jobs, skipped


def _blended(
    network: Network,
    volume: Array,
    settings: WindowSettings,
    budget: Budget,
    jobs: list[Window],
) -> Blend:
    """Every window through the network, folded into one volume."""
    blend = network.blend(volume, settings, budget)
    if not jobs:
        # Air alone: one pass, folded nowhere, still tells how many classes there are.
        place = next(places((volume.shape[1], volume.shape[2], volume.shape[3]), settings))
        blend.fold(network.run(blend.cut([Window(place, ())], whole=True)), [])
    for at in range(0, len(jobs), settings.batch):
        now = jobs[at : at + settings.batch]
        blend.fold(network.run(blend.cut(now, whole=network.whole_batches)), now)
    return blend
