"""Prove that an exported folder is the adapter that was trained: reload it with PEFT, merge it, compare."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from prunedlora.adapters.attach import detach
from prunedlora.adapters.layers import AdaptedLayer, adapted_layers
from prunedlora.adapters.plain import PlainLayer, plain_layers

RELOADED = "reloaded"
TOLERANCE = 1e-4
LOW_PRECISION_TOLERANCE = 5e-2


class VerificationError(RuntimeError):
    """An exported adapter is not the trained one, or does nothing; the message says what differs."""


@dataclass(frozen=True)
class Certificate:
    """What was compared, on logits of one batch in evaluation mode."""

    max_logit_difference_reloaded: float
    """Between the trained adapter and the folder loaded by PEFT."""
    max_logit_difference_merged: float | None
    """Between the trained adapter and base weights with the folder merged in; None when not asked for."""
    max_logit_change: float
    """Between the trained adapter and the same head without A and B: what the adapter does."""
    num_examples: int
    tolerance: float
    """Largest difference that passes."""


def verify(
    model: PeftModel,
    adapter_name: str,
    folder: Path,
    batch: Mapping[str, Tensor],
    *,
    merged: bool,
    tolerance: float | None = None,
) -> Certificate:
    """Loads `folder` beside `adapter_name` with PEFT's own loader and compares modules, ranks, factors and logits.

    `batch`: inputs of the model, on its device ("labels" are left out). `merged` compares with merged weights too,
    which are computed one layer at a time on a copy: the base is never written, and must not be quantised for it.
    `tolerance` is a share of the largest logit (or of 1); None is 1e-4, or 5e-2 for a base in half precision. Call it
    under the autocast that the model is evaluated with. The model is left as it was: active adapter, requires_grad,
    train mode and random state.

    PEFT cannot hold AdaLoRA and LoRA on one model: there the folder is loaded onto a copy of the base.

    Raises VerificationError naming what differs, or that the adapter changes nothing.
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    device = next(model.parameters()).device
    if tolerance is None:
        low = any(p.dtype in (torch.bfloat16, torch.float16) for p in model.parameters())
        tolerance = LOW_PRECISION_TOLERANCE if low else TOLERANCE
    with _left_as_it_was(model, adapter_name), torch.no_grad():
        model.eval()
        trained = _logits(model, inputs)
        with _without_contribution(model, adapter_name):
            change = _distance(trained, _logits(model, inputs))
        if change == 0:
            raise VerificationError(f"adapter {adapter_name!r} is not live: logits are the same without it")
        allowed = tolerance * max(1.0, float(trained.abs().max()))
        host = _load(model, adapter_name, folder, device)
        _compare_layers(plain_layers(model, adapter_name), plain_layers(host, RELOADED))
        host.set_adapter(RELOADED)
        difference = _distance(trained, _logits(host, inputs))
        _check(difference, allowed, f"the adapter reloaded from {folder}")
        difference_merged = None
        if merged:
            with _merged(adapted_layers(host, RELOADED)):
                difference_merged = _distance(trained, _logits(host, inputs))
            _check(difference_merged, allowed, f"the base with the adapter from {folder} merged in")
    return Certificate(difference, difference_merged, change, trained.shape[0], allowed)


@torch.no_grad()
def logits_of(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Logits on a batch ("labels" left out) in evaluation mode, float64. Call it under the model's autocast."""
    return _logits(model.eval(), {name: value for name, value in batch.items() if name != "labels"})


def check_logits(expected: Tensor, found: Tensor, *, low_precision: bool, what: str) -> float:
    """Largest difference of two models' logits. Raises VerificationError, naming `what`, above the tolerance, which is
    a share of the largest logit (or of 1)."""
    difference = _distance(expected, found)
    tolerance = LOW_PRECISION_TOLERANCE if low_precision else TOLERANCE
    _check(difference, tolerance * max(1.0, float(expected.abs().max())), what)
    return difference


def _logits(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    logits: Tensor = model(**inputs).logits
    return logits.double()


def _distance(left: Tensor, right: Tensor) -> float:
    return float((left - right).abs().max())


def _check(difference: float, allowed: float, what: str) -> None:
    if not difference <= allowed:  # NaN does not pass
        raise VerificationError(f"{what} gives other logits: off by {difference:.3g}, allowed {allowed:.3g}")


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


def _compare_layers(trained: list[PlainLayer], reloaded: list[PlainLayer]) -> None:
    """The set of adapted modules, every rank, and B A bit for bit."""
    expected = {layer.name: layer for layer in trained if layer.rank > 0}
    found = {layer.name: layer for layer in reloaded}
    if expected.keys() != found.keys():
        missing, surplus = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
        raise VerificationError(f"the reloaded adapter misses modules {missing} and adds modules {surplus}")
    for name, layer in expected.items():
        other = found[name]
        if other.rank != layer.rank:
            raise VerificationError(f"layer {name!r} has rank {layer.rank}, but {other.rank} after reloading")
        if not (torch.equal(other.A, layer.A) and torch.equal(other.B, layer.B)):
            raise VerificationError(f"layer {name!r} has other weights after reloading")


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
    modes = [(module, module.training) for module in model.modules()]
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            model.set_adapter(adapter_name)
            if RELOADED in model.peft_config:
                model.delete_adapter(RELOADED)
            for module, mode in modes:
                module.training = mode
            for parameter, flag in trained:
                parameter.requires_grad_(flag)
