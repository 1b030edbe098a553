"""Prove that an exported folder is the adapter that was trained: reload it with PEFT, merge it, compare."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from prunedlora.adapters.attach import detach
from prunedlora.adapters.full_float32 import full_float32
from prunedlora.adapters.layers import AdaptedLayer, adapted_layers, wrapped_heads
from prunedlora.adapters.module_modes import in_evaluation_mode
from prunedlora.adapters.plain import PlainLayer, plain_layers

RELOADED = "reloaded"
HALF = (torch.bfloat16, torch.float16)
TOLERANCE = 1e-4
"""Root mean square of the logits' difference that passes, as a share of the logits' own, or of 1.

Rounding moves single logits far: in float32, 73 adapters of the small model of jobs/benchmark.py differ from their
merged form by up to 5e-4 in one logit of 16, on other examples by 2e-3, but by at most 2.4e-6 of the logits in root
mean square.
"""
LOW_PRECISION_TOLERANCE = 5e-2
"""The same in half precision. Eleven adapters of SmolLM2-135M, trained in bfloat16 and written with another scaling,
differ by up to 5.0 of 40 in one logit (7.8 when merged), but by 0.23 of 17 in root mean square, at most 0.014 of the
logits' own; what the adapters do is 7.6 or more. No other model was measured.

Errors that are local, in a row of the vocabulary, say, can hide in a mean: factors and heads are compared exactly.
"""


class VerificationError(RuntimeError):
    """An exported adapter is not the trained one; the message says what differs."""


@dataclass(frozen=True)
class Certificate:
    """What was compared, on logits of one batch in evaluation mode."""

    max_logit_difference_reloaded: float
    """Between the trained adapter and the folder loaded by PEFT."""
    max_logit_difference_merged: float | None
    """Between the trained adapter and base weights with the folder merged in; None when not asked for."""
    rms_logit_difference_reloaded: float
    """Root mean square of the same difference."""
    rms_logit_difference_merged: float | None
    """None when not asked for. Where it is not far below `rms_logit_change`, merging rounds the adapter away."""
    max_logit_change: float
    """Between the trained adapter and the same head without A and B: what the adapter does. 0 is no error: early in a
    warm-up, in half precision, an adapter does nothing yet that logits show."""
    rms_logit_change: float
    num_examples: int
    tolerance: float
    """Largest root mean square of a difference that passes, in logits."""


def verify(
    model: PeftModel,
    adapter_name: str,
    folder: Path,
    batch: Mapping[str, Tensor],
    *,
    merged: bool,
) -> Certificate:
    """Loads `folder` beside `adapter_name` with PEFT's own loader and compares modules, ranks, factors, heads and
    logits.

    `batch`: inputs of the model, on its device ("labels" are left out). `merged` compares with merged weights too,
    which are computed one layer at a time on a copy: the base is never written, and must not be quantised for it.
    How much logits may differ: TOLERANCE, or LOW_PRECISION_TOLERANCE where the model computes in half precision. Call
    it under the autocast that the model is evaluated with; float32 is multiplied in full precision. The model is left
    as it was: active adapter, requires_grad, train mode and random state.

    PEFT cannot hold AdaLoRA and LoRA on one model: there the folder is loaded onto a copy of the base.

    Raises VerificationError naming what differs.
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    device = next(model.parameters()).device
    with _left_as_it_was(model, adapter_name), torch.no_grad():
        trained = _answer(model, inputs)
        with _without_contribution(model, adapter_name):
            change = trained.logits - _answer(model, inputs).logits
        largest_change, rms_change = _largest(change), _root_mean_square(change)
        del change  # logits are large
        host = _load(model, adapter_name, folder, device)
        _compare_layers(plain_layers(model, adapter_name), plain_layers(host, RELOADED))
        _compare_heads(_heads(model, adapter_name), _heads(host, RELOADED))
        host.set_adapter(RELOADED)
        what = f"the adapter reloaded from {folder}"
        by_reloading = _check_answers(trained, _answer(host, inputs), what)
        by_merging: LogitDifference | None = None
        if merged:
            with _merged(adapted_layers(host, RELOADED)):
                what = f"the base with the adapter from {folder} merged in"
                by_merging = _check_answers(trained, _answer(host, inputs), what)
    return Certificate(
        max_logit_difference_reloaded=by_reloading.max,
        max_logit_difference_merged=None if by_merging is None else by_merging.max,
        rms_logit_difference_reloaded=by_reloading.rms,
        rms_logit_difference_merged=None if by_merging is None else by_merging.rms,
        max_logit_change=largest_change,
        rms_logit_change=rms_change,
        num_examples=len(next(iter(inputs.values()))),
        tolerance=by_reloading.tolerance,
    )


def verify_reloaded(
    model: PeftModel,
    adapter_name: str,
    folder: Path,
    example: Mapping[str, Tensor] | None,
    *,
    layers: Sequence[PlainLayer] | None = None,
) -> None:
    """Loads `folder` beside `adapter_name` with PEFT's own loader and compares modules, ranks, factors and heads, bit
    for bit, and the logits on `example`; no logits without.

    As `verify` without its questions about what the adapter does; the model is left as it was. `layers`: what the
    folder holds in the place of the model's own, of which it is the same function (`export`); None: those.

    Raises VerificationError naming what differs, and what the model itself raises on `example`.
    """
    device = next(model.parameters()).device
    with _left_as_it_was(model, adapter_name), torch.no_grad():
        host = _load(model, adapter_name, folder, device)
        _compare_layers(plain_layers(model, adapter_name) if layers is None else layers, plain_layers(host, RELOADED))
        _compare_heads(_heads(model, adapter_name), _heads(host, RELOADED))
        if example is not None:
            trained = _answer(model, example)
            host.set_adapter(RELOADED)
            _check_answers(trained, _answer(host.eval(), example), f"the adapter reloaded from {folder}")


@torch.no_grad()
@full_float32
def logits_of(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Logits on a batch ("labels" left out) in evaluation mode, float64; of real tokens alone.

    Call it under the model's autocast; float32 is multiplied in full precision.
    """
    return _answer(model.eval(), {name: value for name, value in batch.items() if name != "labels"}).logits


@dataclass(frozen=True)
class LogitDifference:
    """How far two models' logits are apart, and what was allowed."""

    max: float
    rms: float
    tolerance: float
    """Largest `rms` that passes, in logits."""


def check_logits(expected: Tensor, found: Tensor, *, low_precision: bool, what: str) -> LogitDifference:
    """How far two models' logits, of one shape, are apart in root mean square.

    `low_precision`: either model computes in half precision. Raises VerificationError, naming `what`, above
    LOW_PRECISION_TOLERANCE or TOLERANCE.
    """
    tolerance = LOW_PRECISION_TOLERANCE if low_precision else TOLERANCE
    apart = expected - found
    difference = LogitDifference(
        _largest(apart), _root_mean_square(apart), tolerance * max(1.0, _root_mean_square(expected))
    )
    if not difference.rms <= difference.tolerance:  # NaN does not pass
        raise VerificationError(
            f"{what} gives other logits: off by {difference.rms:.3g} in root mean square, "
            f"allowed {difference.tolerance:.3g}"
        )
    return difference


@dataclass(frozen=True)
class _Answer:
    logits: Tensor
    """(examples, classes), or (real tokens, vocabulary), float64: what stands at padding is not looked at by anyone."""
    is_low_precision: bool
    """Whether some innermost module gave numbers in half precision. The parameters do not tell: accelerate, for one,
    wraps a float32 model's forward in autocast."""


def _answer(model: nn.Module, inputs: Mapping[str, Tensor]) -> _Answer:
    dtypes: set[torch.dtype] = set()

    def look(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            dtypes.add(output.dtype)

    with ExitStack() as stack:
        for module in model.modules():
            if not any(True for _ in module.children()):
                stack.callback(module.register_forward_hook(look).remove)
        logits: Tensor = model(**inputs).logits
    if logits.ndim == 3 and "attention_mask" in inputs:
        logits = logits[inputs["attention_mask"].bool()]
    return _Answer(logits.double(), not dtypes.isdisjoint(HALF))


def _check_answers(expected: _Answer, found: _Answer, what: str) -> LogitDifference:
    low_precision = expected.is_low_precision or found.is_low_precision
    return check_logits(expected.logits, found.logits, low_precision=low_precision, what=what)


def _largest(x: Tensor) -> float:
    return float(x.abs().max())


def _root_mean_square(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def _load(model: PeftModel, adapter_name: str, folder: Path, device: torch.device) -> PeftModel:
    """What carries the folder as adapter RELOADED: the model itself, or a copy of its base."""
    try:
        if not adapted_layers(model, adapter_name):
            base = detach(copy.deepcopy(model))
            return PeftModel.from_pretrained(base, str(folder), RELOADED, torch_device=str(device)).eval()
        result = model.load_adapter(str(folder), RELOADED, torch_device=str(device))
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        raise VerificationError(f"PEFT cannot load {folder}: {error}") from error
    if result.unexpected_keys:
        raise VerificationError(f"{folder} holds weights without a place: {', '.join(sorted(result.unexpected_keys))}")
    return model


def _compare_layers(trained: Sequence[PlainLayer], reloaded: list[PlainLayer]) -> None:
    """The set of adapted modules, every rank, and A and B bit for bit in the type that they are loaded in."""
    expected = {layer.name: layer for layer in trained if layer.rank > 0}
    found = {layer.name: layer for layer in reloaded}
    if expected.keys() != found.keys():
        missing, surplus = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
        raise VerificationError(f"the reloaded adapter misses modules {missing} and adds modules {surplus}")
    for name, layer in expected.items():
        other = found[name]
        if other.rank != layer.rank:
            raise VerificationError(f"layer {name!r} has rank {layer.rank}, but {other.rank} after reloading")
        if not (torch.equal(other.A, layer.A.to(other.A.dtype)) and torch.equal(other.B, layer.B.to(other.B.dtype))):
            raise VerificationError(f"layer {name!r} has other weights after reloading")


def _heads(model: nn.Module, adapter_name: str) -> dict[str, Tensor]:
    """Weights of the modules that were trained whole, by full name."""
    return {
        f"{name}.{weight}": tensor
        for name, head in wrapped_heads(model).items()
        if adapter_name in head.modules_to_save
        for weight, tensor in head.modules_to_save[adapter_name].state_dict().items()
    }


def _compare_heads(trained: Mapping[str, Tensor], reloaded: Mapping[str, Tensor]) -> None:
    """The same heads, bit for bit in the type that they are loaded in."""
    if trained.keys() != reloaded.keys():
        wrong = ", ".join(sorted(trained.keys() ^ reloaded.keys()))
        raise VerificationError(f"only one of the trained and the reloaded adapter has the head weights {wrong}")
    for name, tensor in trained.items():
        if not torch.equal(reloaded[name], tensor.to(reloaded[name].dtype)):
            raise VerificationError(f"head weight {name!r} is another after reloading")


@contextmanager
def _without_contribution(model: PeftModel, adapter_name: str) -> Iterator[None]:
    """Switches B A off and leaves the trained head on."""
    scalings = [module.scaling for module in model.modules() if adapter_name in getattr(module, "lora_A", ())]
    before = [scaling[adapter_name] for scaling in scalings]
    try:
        for scaling in scalings:
            scaling[adapter_name] = 0.0
        yield
    finally:
        for scaling, value in zip(scalings, before, strict=True):
            scaling[adapter_name] = value


@contextmanager
def _merged(layers: list[AdaptedLayer]) -> Iterator[None]:
    """Computes every adapted module as its base layer with weight W0 + s B A, made for the moment of the call."""

    def call_merged(layer: AdaptedLayer) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> Any:
            base = layer.module.base_layer
            weight = (base.weight + layer.module.get_delta_weight(layer.adapter_name)).to(base.weight.dtype)
            return torch.func.functional_call(base, {"weight": weight}, inputs)

        return hook

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.module.register_forward_hook(call_merged(layer)).remove)
        yield


@contextmanager
def _left_as_it_was(model: PeftModel, adapter_name: str) -> Iterator[None]:
    """Inside it is in evaluation mode."""
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), full_float32, in_evaluation_mode(model):
        try:
            yield
        finally:
            model.set_adapter(adapter_name)
            if RELOADED in model.peft_config:
                model.delete_adapter(RELOADED)
            for parameter, flag in trained:
                parameter.requires_grad_(flag)
