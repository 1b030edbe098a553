"""The numbers of a sweep for a newcomer, by size of model, length and number of examples: rules, one function each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

ALPHA = 8
"""With rsLoRA's scaling alpha / sqrt(rank): 2 at rank 16, as alpha 32 has with the usual alpha / rank."""
RATE_WIDTH = 3.0
"""Learning rates are searched from this part of the published one to this multiple."""
LARGE = 10**9
"""Parameters from which on a model begins at rank 32."""
QUANTIZED = 13 * 10**9
"""Parameters from which on weights of 4 bits are suggested."""
SLOW = 10**8
"""Parameters from which on a step takes long on a CPU."""
BASELINE_RANKS = (8, 1)
"""Of plain LoRA beside the search: what people take, and the least that there is."""
PASSES = 3
"""Over the training examples, if that is neither very few nor very many steps."""
LEAST_STEPS = 200
MOST_PASSES = 10
LONG_ANSWER = 16
"""Tokens up to which an answer is a label or a number, which is right or wrong as a whole."""
RARE = 0.75
"""Share of the largest class from which on accuracy says little."""
MOST_EVALUATED = 500


def initial_rank(num_params: int) -> int:
    """Of every layer at the start: 32 for models of a billion parameters and more, 16 below."""
    return 32 if num_params >= LARGE else 16


def rungs(rank: int, widths: Sequence[int]) -> list[float]:
    """Mean ranks of a ladder that begins at `rank`: 1/4, 1/16, 1/32 and 1/64 of it. `widths` (layers,): parameters of
    one component in each; a size that has no room for four of the widest is left out."""
    least = 4 * max(widths) / sum(widths) if widths else 0.0
    return [size for size in (rank / part for part in (4, 16, 32, 64)) if size >= least] or [rank / 4]


def learning_rate(family: str, hidden_size: int, rank: int) -> float:
    """The published rate of LoRA for a model of this width, brought to our scaling at `rank`; two digits.

    5e-5 for full fine-tuning, times 10 for LoRA with alpha 32 and scaling alpha / r, times (2000 / hidden size) to the
    power 0.0775 for Qwen and 0.781 for Llama, which all others are taken for ("LoRA Without Regret",
    https://thinkingmachines.ai/blog/lora/; the numbers as in tinker_cookbook/hyperparam_utils.py,
    https://github.com/thinking-machines-lab/tinker-cookbook). A step's effect goes with scaling times rate.
    """
    power = 0.0775 if family.startswith("qwen") else 0.781
    published = 5e-5 * 10 * (2000 / hidden_size) ** power
    return two_digits(published * (32 / rank) / (ALPHA / rank**0.5))


def rate_range(rate: float) -> list[float]:
    """Lowest and highest learning rate that is searched."""
    return [two_digits(rate / RATE_WIDTH), two_digits(rate * RATE_WIDTH)]


def baseline_rates(rate: float) -> list[float]:
    """Learning rates of plain LoRA, of the range that is searched: a factor of two apart."""
    return [two_digits(rate * part) for part in (0.5, 1.0, 2.0)]


@dataclass(frozen=True)
class Course:
    num_steps: int
    batch_size: int

    def passes(self, num_train: int) -> float:
        """Over the training examples."""
        return self.num_steps * self.batch_size / num_train


def course(num_train: int, num_params: int, *, has_gpu: bool) -> Course:
    """How long one training is: PASSES over the examples, at least LEAST_STEPS steps (of few examples at most
    MOST_PASSES passes), and no more than a machine does in reasonable time."""
    batch = 8 if num_train < 500 else 32 if has_gpu and num_train >= 20_000 else 16
    most = 3000 if has_gpu else 400 if num_params >= SLOW else 1000
    steps = max(ceil(PASSES * num_train / batch), min(LEAST_STEPS, MOST_PASSES * num_train // batch))
    return Course(min(rounded_up(steps, 10), most), batch)


def pass_tokens(num_params: int, *, has_gpu: bool) -> int:
    """Tokens of one forward pass that such a machine most likely has memory for."""
    if not has_gpu:
        return 4096
    return 16384 if num_params < LARGE else 8192 if num_params < 4 * LARGE else 4096


def max_length(p99: int, longest: int, limit: int | None) -> int | None:
    """The limit of an example in tokens: 99 of 100 pass whole, all of them where that is not much more; None: that of
    the model, which is no more."""
    wanted = longest if longest <= 1.25 * p99 else p99
    wanted = rounded_up(wanted, 16 if wanted <= 128 else 64)
    return None if limit is not None and wanted >= limit else wanted


def metric_of_classes(classes: Mapping[str, int]) -> str:
    """accuracy; macro_f1 where one class has most of the examples."""
    return "macro_f1" if max(classes.values()) > RARE * sum(classes.values()) else "accuracy"


def rounded_up(number: float, to: int) -> int:
    """The next multiple."""
    return ceil(number / to) * to


def two_digits(number: float) -> float:
    """Rounded to two digits that count."""
    return round(number, 1 - floor(log10(abs(number))))
