# ruff: noqa: E501 - statements stand on one line
"""`make test-cluster`: the chart installed, a row followed to its readers, and what may go wrong on the way."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import urllib.error
from contextlib import suppress
from pathlib import Path

import helm_python

from llm_platform_tests.deployments.cluster import scenes
from llm_platform_tests.deployments.cluster.commands import (
    CLUSTER,
    KEPT,
    NAMESPACE,
    NETWORK,
    NODE,
    ROOT,
    STATE,
    helm,
    look,
    run,
    say,
    step,
    wait,
)
from llm_platform_tests.deployments.cluster.surroundings import (
    ENDPOINT_PORT,
    TRAINING,
    before_the_chart,
    chart,
    databases,
    platform_image,
    pushed,
    values,
    vllm_image,
)


def play(archive: Path, training_archive: Path | None) -> None:
    """All scenes, on a cluster that is up.

    Args:
        archive: Of the platform's image.
        training_archive: Of the image that trains; None leaves that scene out, and says so.
    """
    digest = platform_image(archive)
    training = pushed(training_archive, TRAINING) if training_archive else None
    vllm, reference = vllm_image(archive), chart()
    step(f"images and chart are in the registry: {digest}, {reference}")
    databases()
    before_the_chart()
    scenes.gpus_of_the_node(1)
    log = (KEPT / "endpoint.log").open("w")
    endpoint = subprocess.Popen(
        [sys.executable, "-m", "llm_platform_tests.deployments.cluster.endpoint", NODE, str(ENDPOINT_PORT),
         str(KEPT / "asked.json"), "1.5"],
        stdout=log, stderr=log,
    )  # fmt: skip
    try:
        given = values(digest, training)
        helm(NAMESPACE).install(reference, "llm-platform", given, timeout=420, plain_http=True)
        step("the chart is installed from the registry; its migration has ended")
        lost = scenes.first_run_loses_its_pod()
        scenes.a_row_is_followed()
        scenes.backfill_in_jobs()
        scenes.catalog_lost_under_load(lost)
        scenes.upgrade_under_way(reference, given, lost)
        scenes.a_branch_stands_beside(reference, given)
        scenes.production_takes_the_gpus_of_a_branch()
        scenes.a_model_is_brought_up(vllm)
        if training is None:
            step(
                "LEFT OUT: training in a pod. Name the archive of that image in TRAINING_ARCHIVE (make image IMAGE=finetuning)"
            )
        else:
            scenes.training_in_a_pod()
        step("done")
    except helm_python.HelmError:
        look()
        raise
    finally:
        endpoint.terminate()
        endpoint.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inside", action="store_true", help="Already in the cluster's network.")
    parser.add_argument("--keep", action="store_true", help="Leave it up, to look at.")
    given = parser.parse_args()
    archive = Path(os.environ.get("ARCHIVE", ROOT / "platform.tar"))
    if not (CLUSTER / "cluster.py").is_file() or not archive.is_file():
        raise SystemExit(
            "skipped: no cluster to test on. Name the folder with cluster.py in CLUSTER, and the archive of the image in "
            f"ARCHIVE (make image ARCHIVE=…); found CLUSTER={str(CLUSTER)!r}, ARCHIVE={str(archive)!r}."
        )
    if shutil.which("aws") is None:
        raise SystemExit(
            "skipped: aws is not on the path, by which a branch's end empties its bucket: pip install awscli"
        )
    training = Path(os.environ.get("TRAINING_ARCHIVE", ROOT / "finetuning.tar"))
    if given.inside:
        play(archive, training if training.is_file() else None)
        return
    # Our settings keep what is written to its owner, and containers run as others.
    os.umask(0o022)
    # Nothing of an earlier try: objects, databases, journals.
    for folder in (STATE / "etcd", ROOT / "pg", KEPT):
        shutil.rmtree(folder, ignore_errors=True)
    KEPT.mkdir(parents=True)
    environment = {
        **os.environ, "ROOT12": os.environ.get("ROOT12", str(ROOT / "debs")), "BIN": os.environ.get("BIN", str(ROOT / "bin")),
        "STATE": str(STATE), "ROOT": str(ROOT), "TOOLS": os.environ.get("TOOLS", str(Path(sys.executable).parent)),
        "NS": NETWORK,
    }  # fmt: skip
    try:
        say(run(sys.executable, CLUSTER / "cluster.py", "up", env=environment))
        subprocess.run(["bash", str(CLUSTER / "services.sh"), "up"], env=environment, check=True, timeout=120)
        wait("the store answers", lambda: subprocess.run(
            ["nsenter", f"--net=/var/run/netns/{NETWORK}", "curl", "-s", "-m", "3", f"http://{NODE}:5000/"],
            capture_output=True, check=False).returncode == 0, 60)  # fmt: skip
        inside = ["nsenter", f"--net=/var/run/netns/{NETWORK}", sys.executable, "-m", __package__, "--inside"]
        raise SystemExit(subprocess.run(inside, env=environment, timeout=1500, check=False).returncode)
    finally:
        if not given.keep:
            subprocess.run(["bash", str(CLUSTER / "services.sh"), "down"], env=environment, check=False, timeout=120)
            say(run(sys.executable, CLUSTER / "cluster.py", "down", env=environment))


if __name__ == "__main__":
    with suppress(urllib.error.URLError):
        main()
