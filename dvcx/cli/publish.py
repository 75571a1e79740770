"""What is published of dvcx.yaml: `python -m dvcx.cli.publish schema` (or `page`) prints it."""

from __future__ import annotations

import json
import sys

from dvcx.core.pipeline.publish import json_schema, reference_page


def schema_text() -> str:
    """dvcx.schema.json, whole."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text() if sys.argv[1:] == ["schema"] else reference_page())
