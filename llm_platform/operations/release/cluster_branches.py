"""A branch in a cluster, as an administrator applies it: a namespace, a role, values of the chart, and its end."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import yaml

from llm_platform.errors import ClusterRefused, SpecificationError
from llm_platform.files import write_text
from llm_platform.operations.release.branches import Branch, time_of
from llm_platform.warehouse.object_store import S3Access

UP = """#!/usr/bin/env bash
# {what}: its role and databases, its namespace and its Secret. By an administrator; again changes the password only.
#
#   CATALOG='host=… user=postgres dbname={database}' {folder}/up.sh     (from the checkout: deploy/branch/role.sql)
set -euo pipefail
here=$(dirname "$0")
: "${{CATALOG:?the database of the catalog, as psql takes it, with an administrator}}"
psql "$CATALOG" --quiet --set ON_ERROR_STOP=1 --single-transaction --set role={role} --set schema={role} \\
  --set upstream={upstream} --set owner={owner} -f deploy/branch/role.sql > /dev/null
# Never an argument: those of all processes can be read.
password=$(openssl rand -hex 24)
psql "$CATALOG" --quiet --set ON_ERROR_STOP=1 << SQL
ALTER ROLE {role} PASSWORD '$password';
SELECT 'CREATE DATABASE {history} OWNER {role}'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{history}') \\gexec
SQL
kubectl apply -f "$here/namespace.yaml"
printf '%s' "$password" | kubectl -n {place} create secret generic {secret} --from-file=password=/dev/stdin \\
  --dry-run=client -o yaml | kubectl apply -f -
"""
DOWN = """#!/usr/bin/env bash
# The end of {what}: its pods, volumes and Secrets, its schemas, its history, its role, and its prefix of the bucket.
set -euo pipefail
: "${{CATALOG:?the database of the catalog, as psql takes it, with an administrator}}"
kubectl delete namespace {place} --ignore-not-found
psql "$CATALOG" --quiet --set ON_ERROR_STOP=1 << SQL
DROP DATABASE IF EXISTS {history} WITH (FORCE);
DROP SCHEMA IF EXISTS {role}, {role}_leases CASCADE;
SELECT 'DROP OWNED BY {role}' WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') \\gexec
DROP ROLE IF EXISTS {role};
SQL
aws s3 rm --recursive --quiet s3://{bucket}/{key}/
# A bucket that keeps versions has only hidden them; not every store knows of such.
kept=$(aws s3api get-bucket-versioning --bucket {bucket} --output text 2>&1) \\
  || {{ echo "$kept" >&2; [[ $kept == *NotImplemented* ]]; }}
while [[ $kept == *Enabled* || $kept == *Suspended* ]]; do
  versions=$(aws s3api list-object-versions --bucket {bucket} --prefix {key}/ --max-items 300 --output json \\
    --query '{{Quiet: `true`, Objects: [Versions, DeleteMarkers][].{{Key: Key, VersionId: VersionId}}}}')
  [[ $versions == *VersionId* ]] || break
  refused=$(aws s3api delete-objects --bucket {bucket} --delete "$versions" --query Errors --output text)
  [[ ${{refused:-None}} == None ]] || {{ echo "The bucket keeps $refused" >&2; exit 1; }}
done
"""
SECRET = "catalog-password"
NAMESPACE, VALUES, BEGIN, END = "namespace.yaml", "values.yaml", "up.sh", "down.sh"
UPSTREAM, MADE_AT, EXPIRES_AT, BRANCH = (
    f"llm-platform/{word}" for word in ("upstream", "made-at", "expires-at", "branch")
)


@dataclass(frozen=True)
class Production:
    """What a branch is made beside: a deployment's addresses, none with a password.

    Attributes:
        namespace: Whose tables the branch reads.
        catalog: `postgres:` and libpq's words.
        dagster_storage: `postgresql://user@host:port/database`.
        data_root: `s3://bucket/prefix`.
        store: How the bucket is reached.
        models: Kubernetes namespace of the models' pods.
    """

    namespace: str
    catalog: str | None
    dagster_storage: str | None
    data_root: str | None
    store: S3Access
    models: str | None = None

    def require_shared(self) -> None:
        """Refuse to make a branch beside what only one machine has.

        Raises:
            SpecificationError: names the settings that are missing.
        """
        wanted = {
            "LLM_PLATFORM_CATALOG (postgres:…)": (self.catalog or "").startswith("postgres:"),
            "LLM_PLATFORM_DAGSTER_STORAGE": self.dagster_storage is not None,
            "LLM_PLATFORM_DATA_ROOT (s3://…)": (self.data_root or "").startswith("s3://"),
        }
        if missing := [name for name, is_there in wanted.items() if not is_there]:
            raise SpecificationError(
                f"A branch in a cluster stands beside a deployment there, and this one lacks {', '.join(missing)}. Set "
                "them as in the deployment's pods, or leave --cluster out for a branch of this machine."
            )


def write_cluster_branch(folder: Path, name: str, production: Production, *, expires_at: datetime | None) -> str:
    """Write what makes and ends a branch in a cluster; returns the Kubernetes namespace.

    Args:
        folder: Gets `namespace.yaml`, `values.yaml`, `up.sh` and `down.sh`.
        name: Namespace of its tables, name of its role, and schema of its catalog.
        production: What it reads.
        expires_at: None for one that stays until somebody takes it down; an annotation of the namespace.

    Raises:
        SpecificationError: the deployment is none of a cluster.
        StorageError: the folder cannot be written.
    """
    from psycopg2.extensions import make_dsn, parse_dsn

    production.require_shared()
    words: dict[str, str] = parse_dsn(str(production.catalog).removeprefix("postgres:"))
    own = {key: value for key, value in words.items() if key not in ("password", "passfile")} | {"user": name}
    place = f"llm-platform-{name.replace('_', '-')}"
    bucket, _, below = str(production.data_root).rstrip("/").removeprefix("s3://").partition("/")
    texts = {
        "what": f"branch {name} of {production.namespace}",
        "folder": shlex.quote(str(folder)),
        "database": words.get("dbname", "lake"),
        "role": name,
        "upstream": production.namespace,
        "owner": words.get("user", "postgres"),
        "history": f"dagster_{name}",
        "place": place,
        "secret": SECRET,
        "bucket": bucket,
        "key": f"{below}/{name}".lstrip("/"),
    }
    values = _values(name, production, catalog=f"postgres:{make_dsn(**own)}")
    for file, what in {
        NAMESPACE: _namespace(place, name, production, expires_at),
        VALUES: values,
    }.items():
        write_text(folder / file, yaml.safe_dump(what, sort_keys=False), shared=True)
    for file, text in {BEGIN: UP, END: DOWN}.items():
        write_text(folder / file, text.format(**texts), shared=True).chmod(0o755)
    return place


def cluster_branches(folder: Path) -> list[Branch]:
    """The branches whose files are in a folder or in the folders in it, by name; of one that was ended there are none.

    Raises:
        SpecificationError: a file is none that `write_cluster_branch` wrote.
    """
    return sorted((branch for _, branch in _branches_in(folder)), key=lambda one: one.name)


def end_cluster_branch(folder: Path, name: str) -> None:
    """Run the script that takes a branch away from the cluster, its database and its bucket, and remove its files.

    The script connects as its environment says, and may be run again where it was cut off.

    Args:
        folder: As in `cluster_branches`.

    Raises:
        SpecificationError: no files of this branch are there.
        ClusterRefused: the script failed; the files stay.
    """
    found = {branch.name: of_branch for of_branch, branch in _branches_in(folder)}
    if name not in found:
        raise SpecificationError(
            f"{folder} has no files of a branch {name!r}, so nothing was ended. There are: "
            f"{', '.join(sorted(found)) or 'none'}."
        )
    script = (found[name] / END).resolve()
    try:
        done = subprocess.run([script], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ClusterRefused(f"Cannot end branch {name!r}: {script} cannot be run ({error.strerror}).") from error
    if done.returncode:
        said = done.stderr.strip().splitlines()[-3:]
        raise ClusterRefused(
            f"Branch {name!r} is not ended, or not whole: {script} ended with {done.returncode} ({' '.join(said)}). "
            "Mend that and end it again: what is gone already is passed over."
        )
    for file in (VALUES, BEGIN, END, NAMESPACE):
        (found[name] / file).unlink(missing_ok=True)
    with suppress(OSError):  # somebody keeps more there
        found[name].rmdir()


def _branches_in(folder: Path) -> Iterator[tuple[Path, Branch]]:
    for path in (folder / NAMESPACE, *folder.glob(f"*/{NAMESPACE}")):
        if not path.is_file():
            continue
        try:
            about = yaml.safe_load(path.read_text(encoding="utf-8"))["metadata"]
            name, upstream = about["labels"][BRANCH], about["annotations"][UPSTREAM]
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            raise SpecificationError(
                f"{path}:1: cannot be read as what 'branch up --cluster' writes ({type(error).__name__}). Write it "
                "anew, or name the folder of a branch."
            ) from error
        made_at, expires_at = (time_of(about["annotations"].get(key)) for key in (MADE_AT, EXPIRES_AT))
        yield path.parent, Branch(name, upstream, made_at, expires_at, place=about["name"])


def _namespace(place: str, name: str, production: Production, expires_at: datetime | None) -> dict[str, Any]:
    said = {UPSTREAM: production.namespace, MADE_AT: datetime.now(UTC).isoformat()}
    if expires_at is not None:
        said[EXPIRES_AT] = expires_at.isoformat()
    labels = {BRANCH: name, "pod-security.kubernetes.io/enforce": "restricted"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": place, "labels": labels, "annotations": said},
    }


def _values(name: str, production: Production, *, catalog: str) -> dict[str, Any]:
    """What the chart's profile `branch` lacks; image, applications and network are those of production's values."""
    history, store = urlsplit(str(production.dagster_storage)), production.store
    where = history.netloc.rpartition("@")[2]
    password = {"name": SECRET, "key": "password"}
    return {
        "namespace": name,
        "upstream": production.namespace,
        "catalog": {"address": catalog, "passwordSecret": password},
        "upstreamCatalog": {"address": catalog, "passwordSecret": password},
        "dagsterStorage": {
            "address": urlunsplit(("postgresql", f"{name}@{where}", f"/dagster_{name}", "", "")),
            "passwordSecret": password,
        },
        "data": {
            "root": production.data_root,
            "region": store.region,
            "endpoint": store.endpoint,
            "urlStyle": store.url_style,
            "useSsl": store.use_ssl,
        },
        **({"models": {"namespace": production.models}} if production.models else {}),
    }
