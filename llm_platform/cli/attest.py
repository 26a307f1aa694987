"""`llm-platform attest`: signed statements of what is published, and their verification without a network."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from llm_platform.cli.console import ApplicationName, application_named, console
from llm_platform.errors import SpecificationError
from llm_platform.files import write_text
from llm_platform.settings.settings import load_settings

commands = typer.Typer(no_args_is_help=True, help="Signed statements of what is published, on what evidence.")

Image = Annotated[
    str | None, typer.Option(help="Digest of the image that runs; LLM_PLATFORM_IMAGE_DIGEST if not given.")
]


@commands.command("sign")
def attest_sign(
    application: ApplicationName,
    key: Annotated[Path, typer.Option(help="Private ECDSA key, PEM.", exists=True, dir_okay=False)],
    output: Annotated[
        Path | None, typer.Option(help="File to write; attestation.json beside application.yaml.")
    ] = None,
    image: Image = None,
) -> None:
    """State what the present champion rests on, and sign it. Only what passed can be attested."""
    from llm_platform.operations.release import attestation
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        facts = attestation.facts_of(lake.application(application), loaded, image_digest=_image(image))
    if wrong := attestation.contradictions(facts):
        raise SpecificationError(f"{application} cannot be attested:\n" + "\n".join(f"  {one}." for one in wrong))
    path = output or loaded.application.folder / attestation.FILE
    write_text(
        path, attestation.sign(attestation.statement(facts, at=datetime.now(UTC)), key.read_bytes()), shared=True
    )
    console.print(f"{path}: release {facts['release']['stored']}, approved by {facts['approver']}.", markup=False)


@commands.command("verify")
def attest_verify(
    application: ApplicationName,
    *,
    keys: Annotated[Path, typer.Option(help="Public key, or a folder of them (*.pem).", exists=True)],
    file: Annotated[Path | None, typer.Option(help="attestation.json beside application.yaml if not given.")] = None,
    approver: Annotated[list[str] | None, typer.Option(help="Who may approve; may be given again.")] = None,
    image: Image = None,
    pods: Annotated[
        typer.FileBinaryRead | None,
        typer.Option(help="What `kubectl get pods -o json` prints of the pods that run it; '-' reads it. For --image."),
    ] = None,
) -> None:
    """Hold an attestation against lake, files and image as they are now; exit status 1 if anything differs."""
    from llm_platform.operations.release import attestation
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    envelope = attestation.read_envelope(file or loaded.application.folder / attestation.FILE, application)
    digest = _image(image) if pods is None else attestation.running_image(pods.read())
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        facts = attestation.facts_of(lake.application(application), loaded, image_digest=digest)
    said = attestation.verify(
        envelope, attestation.read_keys(keys), facts, approvers=approver or (), now=datetime.now(UTC)
    )
    console.print(
        f"{application}: release {said['release']['stored']} is what {said['approver']} approved on report "
        f"{said['report']['named']}, attested {said['issued_at']}.",
        markup=False,
    )


def _image(given: str | None) -> str:
    found = given or load_settings().image_digest
    if found is None:
        raise SpecificationError("Which image runs is not known: give --image sha256:…, or LLM_PLATFORM_IMAGE_DIGEST.")
    return found
