"""MLX (mlx-lm): adapters are in a format of its own; a merged model is a model as any other.

Its own format has one rank and scale for all layers, and a tensor of another shape is refused, so that adapters of
unequal ranks cannot be brought into it without padding; a PEFT folder, which has no adapters.safetensors and no
`num_layers`, is not read.
https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/tuner/utils.py (load_adapters). Read in the wheel 0.32.2.
"""

from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.treatment import NotKnown, Refused, Treatment, merged

TWO_ROTATIONS = ("gemma3", "gemma3_text")
"""Types with one rotary embedding for each type of layer, which older readers' keys cannot say (older_readers.py)."""


def treat(shape: AdapterShape) -> Treatment:
    if shape.kind != Kind.MERGED:
        return Refused("takes merged models alone")
    if shape.model_type in TWO_ROTATIONS:
        return NotKnown(f"nobody has tried the configuration that transformers 5 writes of {shape.model_type} models")
    return merged(shape)
