"""MLX (mlx-lm): adapters are in a format of its own; a merged model is a model as any other.

Its own format has one rank and scale for all layers, and a tensor of another shape is refused, so that adapters of
unequal ranks cannot be brought into it without padding; a PEFT folder, which has no adapters.safetensors and no
`num_layers`, is not read.
https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/tuner/utils.py (load_adapters). Read in the wheel 0.32.2.
"""

from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.treatment import Refused, Treatment, merged


def treat(shape: AdapterShape) -> Treatment:
    return merged(shape) if shape.kind == Kind.MERGED else Refused("takes merged models alone")
