#!/bin/sh
# What nobody reads in a container that serves: run in the build stage, on the folder of the installed packages.
set -eu
cd "$1"
# Tests, headers and sources of extensions; source maps of Dagster's pages.
find . -type d \( -name tests -o -path ./pyarrow/include -o -path ./sqlalchemy/testing \) -prune -exec rm -rf {} +
find . -type f \( -name '*.map' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.h' -o -name '*.pyi' \) -delete
# The asynchronous twin of Kubernetes' client, Arrow's Flight, a film: nothing of ours imports or shows them.
rm -rf kubernetes/aio pyarrow/*flight* dagster_webserver/webapp/build/*.mp4
# Pages of Dagster's that stand there twice, sample tables, schemas of bills of materials in XML (ours are JSON), and what the
# makers of wheels say they were built of.
rm -rf dagster_webserver/graphiql sklearn/datasets/data sklearn/datasets/images sklearn/datasets/descr pyarrow/src
rm -rf cyclonedx/schema/_res/*.xsd ./*.dist-info/sboms
# Catalogs in SQLite are a laptop's.
rm -rf duckdb_extension_sqlite_scanner duckdb_extension_sqlite_scanner-*
# A wheel cannot hold links, so this library stands under three names.
if [ -f pyarrow/libarrow_python.so ]; then
  for name in pyarrow/libarrow_python.so.*; do
    if cmp -s pyarrow/libarrow_python.so "$name"; then ln -sf libarrow_python.so "$name"; fi
  done
fi
# Symbols of the linker. Libraries that a wheel's builder has patched (*.libs) would not load afterwards.
if command -v strip > /dev/null; then
  find . -name '*.so*' -type f -not -path '*.libs/*' -exec strip --strip-unneeded {} + 2> /dev/null || true
fi
# Of large libraries the byte code alone: nobody reads their sources here, and a trace still says file and line. Alembic reads
# Dagster's migrations as sources. More than half of Kubernetes' client is what its generator wrote about each method.
for name in dagster google graphql kubernetes narwhals numpy openai pandas pygments rich scipy sklearn slack_sdk sqlalchemy sqlglot; do
  optimized=0
  if [ "$name" = kubernetes ]; then optimized=2; fi
  python3 -m compileall -q -b -o "$optimized" --invalidation-mode unchecked-hash "$name"
  find "$name" -name '*.py' -not -path '*/alembic/*' -delete
done
