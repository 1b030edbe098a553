"""Which linear modules a task's loss depends on: found without weights, before anything is trained."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from prunedlora.adapters.module_modes import in_evaluation_mode
from prunedlora.adapters.targets import LINEAR
from prunedlora.servers.layer_types import layer_type

EXPERTS = "experts"
"""Part of a name behind which modules are called for the tokens that a router sends them, and not for others."""
_PRODUCTS = {torch.matmul, torch.bmm, torch.mm, Tensor.matmul, Tensor.__matmul__, Tensor.bmm, Tensor.mm}


class ReachError(RuntimeError):
    """The model cannot be run without its weights, so that what the task reaches is not known."""


@dataclass(frozen=True)
class Reach:
    """What a task reaches of a model."""

    modules: frozenset[str] | None
    """Full names of the linear modules that get a gradient; None: not known, every one is taken to be reached."""
    problem: str | None = None
    """Why it is not known."""


def find_reach(model: nn.Module, inputs: Mapping[str, Tensor]) -> Reach:
    """`reached_modules`, or why they are not known: models that run on a GPU alone are no less adapted for it."""
    try:
        return Reach(reached_modules(model, inputs))
    except ReachError as error:
        return Reach(None, str(error))


def reached_modules(model: nn.Module, inputs: Mapping[str, Tensor]) -> frozenset[str]:
    """Full names of the linear modules through whose outputs the logits of `inputs` are computed.

    A module that is not among them gets no gradient: it is not called (a vision tower, for text), its weight is used
    without calling it (which an adapter around it does not see: Mamba's dt_proj), or its output is not used. A zero is
    added to the output of every linear module, and autograd says which of these zeros the logits depend on: a matter of
    structure, not of values. One expert of a mixture stands for all that lie beside it, since routing differs from
    token to token.

    `model` may be on the meta device and is left as it was. It is run on the CPU with weights that hold one number
    each, and products with such weights are not computed: a model of any size takes a second and no memory.
    `inputs`: (1, tokens) on the CPU, a few tokens are enough.

    Raises ReachError, with the model's own error, when it cannot be run like this.
    """
    linear = [name for name, module in model.named_modules() if name and isinstance(module, LINEAR)]
    probes: dict[str, list[Tensor]] = {name: [] for name in linear}
    modules = dict(model.named_modules())
    with ExitStack() as stack:
        stack.enter_context(in_evaluation_mode(model))
        stack.enter_context(_unfused_experts(model))
        for name in linear:
            stack.callback(modules[name].register_forward_hook(_probe(probes[name])).remove)
        try:
            with torch.random.fork_rng(devices=[]), torch.enable_grad(), _WithoutProducts():
                logits = torch.func.functional_call(model, _hollow(model), kwargs=dict(inputs)).logits
        except Exception as error:  # whatever model code raises that was not written to run without weights
            raise ReachError(f"{type(model).__name__} cannot be run without its weights: {error}") from error
    asked = [(name, probe) for name in linear for probe in probes[name]]
    if not asked or not logits.requires_grad:
        return frozenset()
    found = torch.autograd.grad(logits.sum(), [probe for _, probe in asked], allow_unused=True)
    reached = {name for (name, _), gradient in zip(asked, found, strict=True) if gradient is not None}
    return frozenset(reached | _fellow_experts(linear, reached))


class NoGradientError(RuntimeError):
    """An adapted layer that does not take part in the loss; the message names it."""


def check_gradients(model: nn.Module) -> None:
    """Every adapted layer of `model` has a gradient, after a backward pass of its first step.

    What `reached_modules` cannot see: fused kernels of a GPU that use a weight without calling its module, and models
    that do not run without weights. Experts are left out: no token may have been sent to one yet.

    Raises NoGradientError.
    """
    idle = dict.fromkeys(
        name.partition(".lora_")[0].removeprefix("base_model.model.")
        for name, parameter in model.named_parameters()
        if ".lora_" in name and parameter.requires_grad and parameter.grad is None and f".{EXPERTS}." not in name
    )
    if idle:
        raise NoGradientError(
            f"no gradient reaches {len(idle)} adapted layers: {', '.join(idle)}; leave them out of target_modules"
        )


def _probe(probes: list[Tensor]) -> Callable[[nn.Module, Any, Any], Any]:
    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        probes.append(torch.zeros((), dtype=output.dtype, requires_grad=True))
        return output + probes[-1]

    return hook


def _fellow_experts(linear: Sequence[str], reached: Iterable[str]) -> set[str]:
    """Modules that differ from a reached one in the number of the expert alone."""

    def kind(name: str) -> str | None:
        before, found, behind = name.rpartition(f".{EXPERTS}.")
        return f"{before}{found}{layer_type(behind)}" if found else None

    kinds = {kind(name) for name in reached} - {None}
    return {name for name in linear if kind(name) in kinds}


def _hollow(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer in its shape on the CPU, all places of one being the same number in memory: 1 for
    numbers, 0 for what may be an index or a mask."""
    named = [*model.named_parameters(), *model.named_buffers()]  # tied ones once: functional_call sees to the others
    return {
        name: torch.ones(()).expand(tensor.shape)
        if tensor.is_floating_point()
        else torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
        for name, tensor in named
    }


def _is_hollow(tensor: Any) -> bool:
    return isinstance(tensor, Tensor) and tensor.numel() > 1 and not any(tensor.stride()) and not tensor.requires_grad


class _WithoutProducts(TorchFunctionMode):
    """A product with a hollow weight is the mean of its input in the product's shape, still a function of the input."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is nn.functional.linear and len(args) > 1 and _is_hollow(args[1]):
            return _mean(args[0], args[1].shape[0])
        if func is torch.addmm and len(args) > 2 and _is_hollow(args[2]):
            return _mean(args[1], args[2].shape[-1])
        if func in _PRODUCTS and len(args) > 1 and args[0].dim() > 1 and _is_hollow(args[1]) and args[1].dim() > 1:
            return _mean(args[0], args[1].shape[-1])
        return func(*args, **(kwargs or {}))


def _mean(x: Tensor, width: int) -> Tensor:
    return x.mean(-1, keepdim=True).repeat(*(1,) * (x.dim() - 1), width)


@contextmanager
def _unfused_experts(model: Any) -> Iterator[None]:
    """Stacked experts computed one by one: fused kernels do not take hollow weights."""
    if not getattr(model, "_can_set_experts_implementation", lambda: False)():
        yield
        return
    before = model.get_experts_implementation()
    model.set_experts_implementation("eager")
    try:
        yield
    finally:
        model.set_experts_implementation(before)
