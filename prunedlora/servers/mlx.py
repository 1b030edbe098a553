"""MLX (mlx-lm): adapters are in a format of its own; a merged model is a model as any other."""

from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.treatment import Refused, Treatment, as_trained


def treat(shape: AdapterShape) -> Treatment:
    return as_trained(shape) if shape.kind == Kind.MERGED else Refused("takes merged models alone")
