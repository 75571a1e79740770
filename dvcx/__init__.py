"""The public Python API of dvcx; names are resolved lazily, so that `import dvcx` costs nothing."""

from __future__ import annotations

__version__ = "0.1.0"
