"""Which cuts there are of what stands there now, and why the others are none."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from prunedlora.adapters.layers import AdaptedLayer
from prunedlora.adapters.shrink import set_factors
from prunedlora.config.cuts import CutsConfig
from prunedlora.pruning.cut import Decomposed, decompose, ranks_left
from prunedlora.pruning.target import Start
from prunedlora.results.record import Cut
from prunedlora.training.calibration import second_moments
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import NonFiniteError
from prunedlora.training.memory import TooLittleMemoryError, is_out_of_memory
from prunedlora.training.model import release_memory
from prunedlora.training.trial import Trial
from prunedlora.trial.cut_sizes import asked_cuts, target_of
from prunedlora.trial.failures import LinAlgError


@dataclass(frozen=True)
class PossibleCut:
    """A cut of what stands there now."""

    cut: Cut
    ranks: tuple[int, ...]
    decomposed: Decomposed

    @property
    def num_params(self) -> int:
        return sum(rank * width for rank, width in zip(self.ranks, self.decomposed.widths, strict=True))

    def put_on(self, layers: Sequence[AdaptedLayer]) -> None:
        """Gives the layers, whose own factors are set aside, those of the cut."""
        for layer, (A, B) in zip(layers, self.decomposed.cut(self.ranks), strict=True):
            set_factors(layer, A, B, None, None if layer.gate is None else layer.gate.new_ones(len(A)))


def possible_cuts(
    settings: CutsConfig,
    live: Trial,
    workers: Workers,
    start: Start,
    bases: Collection[str],
    go_on: Callable[[str], None],
) -> tuple[list[PossibleCut], dict[Cut, str]]:
    """The cuts by these bases, and those that are none, with the reason: it takes nothing, is another one, or its basis
    cannot be had. All workers call it alike, with the layers' factors set aside; which cuts there are, and their ranks,
    is as rank 0 finds it, for near ties may fall otherwise on a device of another kind. `go_on` is told what is done,
    and ends it by an error of its own."""
    wanted = [basis for basis in settings.bases if basis in bases]
    decomposed = {basis: _decomposed(basis, settings, live, workers, go_on) for basis in wanted}
    ranks: dict[Cut, tuple[int, ...]] = {}
    left_out: dict[Cut, str] = {}
    for cut in asked_cuts(settings):
        found = decomposed.get(cut.basis)
        if found is None:
            continue
        if isinstance(found, str):
            left_out[cut] = found
            continue
        left = tuple(ranks_left(found, target_of(settings, cut.size), cut.allocation, start))
        same = next((each.name for each, its in ranks.items() if (each.basis, its) == (cut.basis, left)), None)
        if list(left) == found.ranks:
            left_out[cut] = "takes nothing"
        elif same is not None:
            left_out[cut] = f"is {live.step}{same}"
        else:
            ranks[cut] = left
    ranks, left_out = workers.from_first((ranks, left_out))
    possible = []
    for cut, left in ranks.items():
        found = decomposed[cut.basis]
        assert isinstance(found, Decomposed)  # all workers have it, or none
        possible.append(PossibleCut(cut, left, found))
    return possible, left_out


def _decomposed(
    basis: str, settings: CutsConfig, live: Trial, workers: Workers, go_on: Callable[[str], None]
) -> Decomposed | str:
    """What stands there in its principal basis, or why that cannot be had, on all workers alike."""
    layers, moments = live.method.layers, None
    if basis == "whitened":
        assert settings.calibration_examples is not None
        through = f"passing training examples for basis {basis}"
        try:
            moments = second_moments(
                live,
                layers,
                workers,
                settings.calibration_examples,
                lambda number, of: go_on(f"{through}, {number} of {of} batches done"),
            )
        except (NonFiniteError, TooLittleMemoryError) as error:
            return str(error)
    go_on(f"decomposing {len(layers)} layers in basis {basis}")
    factors = [(layer.A.detach(), layer.B.detach()) for layer in layers]
    found, reason = None, None
    try:
        found = decompose(factors, [layer.scaling for layer in layers], moments, settings.damping)
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, LinAlgError) and not is_out_of_memory(error):
            raise
        reason = f"basis {basis!r} cannot be computed: {error}"
    if reason is not None:
        release_memory(workers.device)  # out of the handler: the error holds what was made
    reasons = [each for each in workers.gather(reason) if each is not None]
    if reasons or found is None:
        return str(reasons[0])
    return found
