"""Digest, size and largest parts of an image archive, and whether it is within its limit.

python parts.py ARCHIVE.tar REFERENCE [--most MEGABYTES]
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import sys
import tarfile
from collections import Counter
from typing import Any

MEGABYTE = 1_000_000


class Image:
    """An OCI archive, or what `docker save` writes, which since Docker 25 is one, too."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        manifest = self._json("index.json")["manifests"][0]
        self.digest: str = manifest["digest"]
        found = self._blob(self.digest)
        if "manifests" in found:  # an index of platforms
            self.digest = found["manifests"][0]["digest"]
            found = self._blob(self.digest)
        self.layers: list[dict[str, Any]] = found["layers"]
        self.config: dict[str, Any] = self._blob(found["config"]["digest"])["config"]

    def parts(self) -> Counter[str]:
        """Bytes on disk by package or top folder."""
        sizes: Counter[str] = Counter()
        for layer in self.layers:
            raw = self._read(f"blobs/{layer['digest'].replace(':', '/')}")
            if raw[:2] == b"\x1f\x8b":
                raw = gzip.decompress(raw)
            with tarfile.open(fileobj=io.BytesIO(raw)) as files:
                for one in files:
                    sizes[_part(one.name)] += one.size
        return sizes

    def _json(self, name: str) -> Any:
        return json.loads(self._read(name))

    def _blob(self, digest: str) -> Any:
        return self._json(f"blobs/{digest.replace(':', '/')}")

    def _read(self, name: str) -> bytes:
        member = self._archive.extractfile(name)
        assert member is not None, name
        return member.read()


def _part(path: str) -> str:
    names = path.removeprefix("./").split("/")
    if "site-packages" in names:
        rest = names[names.index("site-packages") + 1 :]
        return rest[0].removesuffix(".libs").removesuffix(".dist-info").partition("-")[0] if rest else "python"
    return "base image" if names[0] != "opt" else "python"


def main() -> int:
    """Print them; 1 if the image is too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive")
    parser.add_argument("reference")
    parser.add_argument("--most", type=int, default=900, help="Megabytes on disk that the platform's image may have.")
    parser.add_argument("--digest", action="store_true", help="Print the digest alone.")
    given = parser.parse_args()
    with tarfile.open(given.archive) as archive:
        image = Image(archive)
        if given.digest:
            sys.stdout.write(f"{image.digest}\n")
            return 0
        parts = image.parts()
    total = sum(parts.values()) / MEGABYTE
    packed = sum(layer["size"] for layer in image.layers) / MEGABYTE
    lines = [
        f"{given.reference}@{image.digest}",
        f"{total:.0f} MB on disk, {packed:.0f} MB to pull, user {image.config.get('User') or 'root'}",
        *(f"  {size / MEGABYTE:6.1f} MB  {name}" for name, size in parts.most_common(12)),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    if "finetuning" not in given.reference and total > given.most:
        sys.stderr.write(f"More than {given.most} MB. The parts above say where they are.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
