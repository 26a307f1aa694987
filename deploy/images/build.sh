#!/usr/bin/env bash
# Builds an image with what is there (docker, podman or buildah) and prints its digest, its size and its largest parts.
#
#   deploy/images/build.sh platform|finetuning [REFERENCE]
#
# PYTHON          a Python with setuptools, for the wheel of this checkout (default python3)
# BUILDER         docker, podman or buildah; unset: the first that is installed
# BASE            base image, by digest; unset: that of the Dockerfile
# BUILD_FLAGS     further flags of the builder, e.g. --volume of a certificate authority, --network
# ARCHIVE         OCI archive to write as well (docker: its own form)
set -euo pipefail
cd "$(dirname "$0")/../.."
image=${1:-platform}
PYTHON=$(realpath --no-symlinks "$(command -v "${PYTHON:-python3}")")
commit=$(git rev-parse HEAD 2> /dev/null || echo unknown)
version=$("$PYTHON" -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
reference=${2:-localhost/llm-platform$([ "$image" = platform ] || echo "-$image"):$version}
builder=${BUILDER:-$(command -v docker podman buildah 2> /dev/null | head -n 1 || true)}
[ -n "$builder" ] || { echo "No docker, podman or buildah is installed: one of them builds the image." >&2; exit 1; }

# All that the build sees: nothing of the checkout's state, secrets or history can get into a layer.
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
source=$context/source && mkdir "$source"
cp -r pyproject.toml README.md LICENSE MANIFEST.in dagster.yaml models.lock.yaml workspace.yaml llm_platform "$source"
find "$source" -name __pycache__ -prune -exec rm -rf {} +
(cd "$source" && "$PYTHON" -c "from setuptools import build_meta as b; b.build_wheel('$context')" > /dev/null)
rm -rf "$source"
cp deploy/images/trim.sh "$context/"
"$PYTHON" deploy/images/requirements.py pyproject.toml requirements.lock > "$context/requirements.txt"
"$PYTHON" deploy/images/requirements.py pyproject.toml requirements-finetune.lock > "$context/requirements-finetuning.txt"

arguments=(--build-arg "COMMIT=$commit" ${BASE:+--build-arg "BASE=$BASE"} --file "deploy/images/$image.Dockerfile" --tag "$reference")
case $(basename "$builder") in
  buildah) "$builder" bud --layers --format oci "${arguments[@]}" ${BUILD_FLAGS:-} "$context" ;;
  podman) "$builder" build --layers --format oci "${arguments[@]}" ${BUILD_FLAGS:-} "$context" ;;
  *) "$builder" build "${arguments[@]}" ${BUILD_FLAGS:-} "$context" ;;
esac

archive=${ARCHIVE:-$context/image.tar}
case $(basename "$builder") in
  buildah) "$builder" push ${PUSH_FLAGS:-} "$reference" "oci-archive:$archive:$reference" > /dev/null ;;
  podman) "$builder" push ${PUSH_FLAGS:-} "$reference" "oci-archive:$archive:$reference" > /dev/null ;;
  *) "$builder" save --output "$archive" "$reference" ;;
esac
"$PYTHON" deploy/images/parts.py "$archive" "$reference"
