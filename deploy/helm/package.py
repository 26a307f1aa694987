"""Package the chart with the version of the platform, and push it to a registry if one is named.

python package.py FOLDER [oci://registry/path]
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import helm_python

HERE = Path(__file__).resolve().parent
CHART = HERE / "llm-platform"


def chart_version(version: str) -> str:
    """A version of Python's as Helm reads versions: 0.2.0.dev1 is 0.2.0-dev1."""
    base, separator, rest = version.partition(".dev")
    return f"{base}-dev{rest}" if separator else base


def main() -> None:
    """Write the archive; print its path, and its reference where it was pushed."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    version = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    helm_python.lint(str(CHART))
    archive = helm_python.package(
        str(CHART), destination=str(folder), version=chart_version(version), app_version=version
    )
    sys.stdout.write(f"{archive}\n")
    for reference in sys.argv[2:]:
        helm_python.push(str(archive), reference)
        sys.stdout.write(f"{reference}/llm-platform:{chart_version(version)}\n")


if __name__ == "__main__":
    main()
