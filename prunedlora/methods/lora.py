"""LoRA (https://arxiv.org/abs/2106.09685): the adapter keeps its rank; the method that does nothing while training.

Registered as rslora too (https://arxiv.org/abs/2312.03732): the same, with the scaling alpha / sqrt(rank), which the
configuration spells out in `adapter.use_rslora`.
"""

from prunedlora.methods.method import Method
from prunedlora.registry import register


@register("method", "rslora")
@register("method", "lora")
class Lora(Method):
    """A fixed-rank adapter: what every method is where it says nothing else."""
