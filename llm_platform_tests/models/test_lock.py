"""Reading the lock file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from llm_platform.errors import SpecificationError
from llm_platform.models.lock import load_lock, lock_hash, pin

HEX = "0123456789abcdef" * 4
GOOD = f"""\
models:
  llama:
    mode: kubernetes
    dialect: nim-2.x
    served_name: meta/llama-3.1-8b-instruct
    image:
      repository: nvcr.io/nim/meta/llama-3.1-8b-instruct
      tag: 2.1.5
      digest: sha256:{HEX}
    release: 2.1.5
    profile: {HEX}
    model: meta-llama/Llama-3.1-8B-Instruct
    licence: Llama 3.1 Community
    context_length: 8192
    price_per_gpu_hour_usd: 2.5
  remote:
    mode: external
    served_name: m
    base_urls: ["http://a:8000/v1/", "https://b"]
    model: m
    licence: MIT
    context_length: 4096
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "models.lock.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_entries_are_read_with_their_names(tmp_path: Path) -> None:
    """Applications name entries; the name is the key, so it cannot disagree with itself."""
    entries = load_lock(write(tmp_path, GOOD))

    assert sorted(entries) == ["llama", "remote"]
    assert entries["llama"].name == "llama"
    assert entries["remote"].base_urls == ("http://a:8000", "https://b")


def test_shipped_lock_file_is_valid() -> None:
    """The demo reads this file first."""
    entries = load_lock(Path(__file__).parents[2] / "models.lock.yaml")

    assert entries["smollm2-135m"].mode == "embedded"
    assert entries["smollm2-135m"].weights is not None


def test_pin_holds_what_decides_an_answer(tmp_path: Path) -> None:
    """A price or a GPU name may change without paying for all answers again; a digest may not."""
    before = load_lock(write(tmp_path, GOOD))["llama"]
    cheaper = load_lock(write(tmp_path, GOOD.replace("2.5", "1.0")))["llama"]
    rebuilt = load_lock(write(tmp_path, GOOD.replace(f"sha256:{HEX}", f"sha256:{HEX[::-1]}")))["llama"]

    assert pin(before) == pin(cheaper)
    assert pin(before) != pin(rebuilt)
    assert pin(before).image == f"nvcr.io/nim/meta/llama-3.1-8b-instruct:2.1.5@sha256:{HEX}"
    assert lock_hash(before) != lock_hash(cheaper)


# What stands in the good file, what stands there instead, the line that is blamed, and what is said about it.
MISTAKES = {
    "misspelt": (
        "served_name: meta",
        "serve_name: meta",
        5,
        "found key 'serve_name' in models.llama; allowed: 'mode', 'dialect', 'served_name',",
    ),
    "missing": ("    served_name: m\n", "", 16, "found no 'served_name' in models.remote; allowed: text"),
    "mode": (
        "mode: external",
        "mode: extern",
        17,
        "allowed: 'embedded', 'external', 'kubernetes'; did you mean 'external'?",
    ),
    "dialect": (
        "dialect: nim-2.x",
        "dialect: nim-2",
        4,
        "found 'nim-2' as models.llama.dialect; allowed: 'nim-1.x', 'nim-2.x',",
    ),
    "digest": (
        f"sha256:{HEX}",
        "latest",
        9,
        "found 'latest' as models.llama.image.digest; allowed: text that matches ^sha256:",
    ),
    "nested": (
        "  digest:",
        "  diggest:",
        9,
        "found key 'diggest' in models.llama.image; allowed: 'repository', 'tag', 'digest', 'digest_from'; did you",
    ),
    "profile": (f"profile: {HEX}", "profile: tp4", 11, "found 'tp4' as models.llama.profile"),
    "number": (
        "context_length: 8192",
        "context_length: 8k",
        14,
        "found '8k' as models.llama.context_length; allowed: a whole number ≥ 1",
    ),
    "range": (
        "context_length: 8192",
        "context_length: 0",
        14,
        "found '0' as models.llama.context_length; allowed: a whole number ≥ 1",
    ),
    "no-address": (
        '    base_urls: ["http://a:8000/v1/", "https://b"]\n',
        "",
        16,
        "mode 'external' needs either 'base_urls'",
    ),
    "address": ("https://b", "b:8000", 19, "'b:8000' is not an http:// or https:// address"),
    "no-weights": ("mode: kubernetes", "mode: embedded", 2, "mode 'embedded' needs 'weights'"),
    "twice": ("  remote:", "  llama:", 16, "found key 'llama' a second time (first at line 2)"),
    "top-key": ("models:", "modells:", 1, "found key 'modells'; allowed: 'models'; did you mean 'models'?"),
    "syntax": ("release: 2.1.5", "release: [2.1.5", 11, "found YAML that cannot be read"),
    "name": ("    mode: external\n", "    mode: external\n    name: other\n", 18, "found key 'name'; allowed: 'mode'"),
    "dns": (
        '    base_urls: ["http://a:8000/v1/", "https://b"]\n',
        "    dns: nims\n",
        19,
        "found 'nims' as models.remote.dns",
    ),
    "no-mapping": (
        "  remote:\n",
        "  other: 3\n  remote:\n",
        16,
        "found '3' as models.other; allowed: a mapping with 'mode'",
    ),
}


@pytest.mark.parametrize(("was", "now", "line", "said"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_reported_with_its_line(tmp_path: Path, was: str, now: str, line: int, said: str) -> None:
    """The file is edited by hand, by people who see only this message."""
    assert was in GOOD
    path = write(tmp_path, GOOD.replace(was, now, 1))

    with pytest.raises(SpecificationError) as caught:
        load_lock(path).require_whole()

    reported = str(caught.value).splitlines()
    assert any(one.startswith(f"{path}:{line}: ") and said in one for one in reported), reported


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    """One run per mistake would be a long afternoon."""
    text = GOOD.replace("mode: kubernetes", "mode: k8s").replace("context_length: 4096", "context_length: no")

    with pytest.raises(SpecificationError) as caught:
        load_lock(write(tmp_path, text)).require_whole()

    assert len(str(caught.value).splitlines()) == 2


def test_missing_and_binary_files_are_named(tmp_path: Path) -> None:
    """A bare FileNotFoundError does not say which file is meant by whom."""
    with pytest.raises(SpecificationError, match=r"nowhere.yaml:1: found no readable file"):
        load_lock(tmp_path / "nowhere.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecificationError, match="byte 0xff, which is not UTF-8"):
        load_lock(tmp_path / "binary.yaml")


def test_a_mistake_in_one_entry_is_no_matter_of_the_others(tmp_path: Path) -> None:
    """The file is shared by all teams of a deployment; a typo of one of them must not stop the rest."""
    text = GOOD.replace("mode: kubernetes", "mode: k8s")

    lock = load_lock(write(tmp_path, text))

    assert len(lock.broken) == 1
    assert len(lock) == len(load_lock(write(tmp_path, GOOD))) - 1
    assert ":" in next(iter(lock.broken.values()))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("meta/llama:8b", "did you mean 'meta_llama_8b'?", id="a-model-s-own-name"),
        pytest.param("über", "did you mean 'uber'?", id="not-ascii"),
        pytest.param("first v2", "did you mean 'first_v2'?", id="a-blank"),
    ],
)
def test_a_name_that_dagster_refuses_is_refused_where_it_is_written(tmp_path: Path, name: str, said: str) -> None:
    """Dagster would say so of the whole deployment, in words that name no file."""
    entry = GOOD.split("models:\n", 1)[1]
    first = entry.split(":", 1)[0].strip()
    path = write(tmp_path, GOOD.replace(f"  {first}:", f"  {json.dumps(name, ensure_ascii=False)}:", 1))

    lock = load_lock(path)

    assert list(lock.broken) == [name]
    assert lock.broken[name].startswith(f"{path}:")
    assert said in lock.broken[name]


def test_names_that_differ_in_punctuation_only_are_refused(tmp_path: Path) -> None:
    """Dagster writes both the same way."""
    entry = yaml.safe_load(GOOD)["models"]["remote"]
    text = yaml.safe_dump({"models": {"one": entry, "other-one": entry, "other.one": entry}}, sort_keys=False)

    lock = load_lock(write(tmp_path, text))

    assert list(lock) == ["one", "other-one"]
    assert list(lock.broken) == ["other.one"]
