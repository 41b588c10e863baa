"""The loss of filters: the numbers numpy gives, zero for wavelets, both forms filters are stored in."""

import numpy as np
import pytest
import torch

from graphrewrite.bridge import Recipe, Stage, finetune
from graphrewrite.bridge.losses import Batch, Loss
from graphrewrite.errors import InvalidData, UnknownNameError
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.factor import Factorize, LowerWavelet
from graphrewrite.passes.factor.factorizations.wavelet import Wavelet
from graphrewrite.passes.factor.wavelets import alias_loss, filters, reconstruction_loss
from graphrewrite.passes.losses.mse import Mse
from graphrewrite.passes.losses.wavelet import WaveletFilters
from graphrewrite.pipeline import Pass, Pipeline


def batch(analysis: np.ndarray, synthesis: np.ndarray, written_out: bool = False) -> Batch:
    if written_out:
        analysis, synthesis = analysis[:, None, ::-1].copy(), synthesis[:, None]
    pair = {"a.analysis.1": torch.tensor(analysis), "a.synthesis.1": torch.tensor(synthesis)}
    return Batch({}, weights=pair)


@pytest.mark.parametrize("written_out", [False, True])
@pytest.mark.parametrize("taps", [2, 5, 6])
def test_both_terms_are_those_of_the_transform_in_numpy(taps: int, written_out: bool) -> None:
    analysis, synthesis = np.random.default_rng(taps).standard_normal((2, 2, taps))
    given = batch(analysis, synthesis, written_out)

    apart = float(WaveletFilters(alias=0)(given)), float(WaveletFilters(reconstruction=0)(given))

    assert apart == pytest.approx(
        (reconstruction_loss(analysis, synthesis), alias_loss(analysis, synthesis)), rel=1e-5
    )
    assert float(WaveletFilters()(given)) == pytest.approx(sum(apart), rel=1e-6)


@pytest.mark.parametrize(("start", "taps"), [("haar", 2), ("haar", 6), ("db2", 6)])
def test_wavelets_cost_nothing_and_others_do(start: str, taps: int) -> None:
    analysis, synthesis = filters(start, taps)

    assert float(WaveletFilters()(batch(analysis, synthesis))) == pytest.approx(0, abs=1e-9)
    assert float(WaveletFilters()(batch(analysis, synthesis, True))) == pytest.approx(0, abs=1e-9)
    assert float(WaveletFilters()(batch(analysis[:, ::-1].copy(), synthesis))) > 0.1
    assert float(WaveletFilters()(batch(1.1 * analysis, synthesis))) > 0.01


def test_layers_add_up() -> None:
    pairs = [np.random.default_rng(seed).standard_normal((2, 2, 4)) for seed in range(2)]
    weights = {
        f"{i}.{kind}": torch.tensor(values)
        for i, pair in enumerate(pairs)
        for kind, values in zip(("analysis", "synthesis"), pair, strict=True)
    }

    found = float(WaveletFilters()(Batch({}, weights=weights)))

    assert found == pytest.approx(
        sum(reconstruction_loss(*pair) + alias_loss(*pair) for pair in pairs), rel=1e-5
    )


def test_filters_without_a_partner_are_named() -> None:
    one = Batch({}, weights={"a.analysis": torch.zeros(2, 4)})

    with pytest.raises(InvalidData, match=r"a\.synthesis"):
        WaveletFilters()(one)


def layer(lowered: bool) -> Model:
    b = Builder(opset=17, seed=0)
    model = b.model(b.op("MatMul", b.input(["N", 16], "x"), b.weight(16, 16), name="layer"))
    steps: list[Pass] = [
        Factorize(Wavelet(levels=2, diagonals="ones"), smallest=0),
        *([LowerWavelet()] if lowered else []),
    ]
    return Pipeline(steps).run(model).model


def strayed(model: Model, weight: float) -> float:
    """Train filters alone away from a wavelet; return how far they get from the conditions."""
    x = np.random.default_rng(0).standard_normal((64, 16)).astype(np.float32)
    losses: tuple[Loss, ...] = (Mse(), *([WaveletFilters(weight=weight)] if weight else []))
    stage = Stage(epochs=20, rate=0.01, losses=losses, trainable=("*analysis*", "*synthesis*"))
    trained = finetune(model, Recipe((stage,), batch=16), {"x": x}, labels=(2 * x).astype(np.float32))
    pairs = [
        np.squeeze(values).astype(np.float64)
        for name, values in trained.weights.items()
        if "analysis" in name or "synthesis" in name
    ]
    analysis, synthesis = pairs
    if model.nodes("Conv"):
        analysis = analysis[:, ::-1]
    return reconstruction_loss(analysis, synthesis) + alias_loss(analysis, synthesis)


@pytest.mark.parametrize("lowered", [False, True])
def test_in_training_it_holds_filters_back(lowered: bool) -> None:
    model = layer(lowered)

    free, held = strayed(model, 0), strayed(model, 100.0)

    assert free > 0.1
    assert held < 0.1 * free


def test_a_model_without_such_filters_is_refused() -> None:
    b = Builder(opset=17, seed=0)
    plain = b.model(b.op("MatMul", b.input(["N", 4], "x"), b.weight(4, 4)))
    x = np.zeros((4, 4), np.float32)

    with pytest.raises(UnknownNameError, match="WaveletFilters reads weights called"):
        finetune(plain, Recipe((Stage(losses=(Mse(), WaveletFilters())),)), {"x": x}, labels=x)
