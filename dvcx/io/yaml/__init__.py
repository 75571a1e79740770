"""Files people write by hand: YAML read safely, parameters in three formats. Editing and writing are imported by name."""

from dvcx.io.yaml.params import load_params, load_values
from dvcx.io.yaml.reading import MAX_BYTES, load

__all__ = ["MAX_BYTES", "load", "load_params", "load_values"]
