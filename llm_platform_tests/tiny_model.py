"""A team that trains an adapter of a model of two layers, on tickets that it can learn from in seconds.

Moods hang on one word of a ticket. The other words are drawn so that no two tickets are near-duplicates.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np

from llm_platform_tests.team import ENTRY, NAME, Team, right_answer

SAID = {"HAPPY": "lovely", "SAD": "dull"}
NOISE = [f"w{number}" for number in range(200)]


def ticket(number: int) -> str:
    """A ticket whose mood one word tells."""
    words = random.Random(number).sample(NOISE, 8)
    return f"DOC#{number}# {' '.join(words)} {SAID[right_answer(number)]}"


def layout(folder: Path) -> Path:
    """A folder in Hugging Face layout with weights that nobody computes with."""
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    values = np.zeros(4, dtype="<f4").tobytes()
    head = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, len(values)]}}).encode()
    (folder / "adapter_model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + values)
    return folder


class TuningTeam(Team):
    """A team whose variant `tuned` answers with an adapter `mood` that it trains on its own tickets."""

    def __init__(self, root: Path, url: str, *, documents: int = 150, **settings: object) -> None:
        super().__init__(root, url, documents=documents, base_models=root / "bases", **settings)
        self.write_documents({f"{number}": ticket(number) for number in range(documents)})
        front = "---\napi: completion\nanswers: {HAPPY: good, SAD: bad}\n---\n"
        (self.folder / "prompts" / "mood.md").write_text(front + "{{ text }} Mood :\n", encoding="utf-8")
        self.specification["variants"]["tuned"] = {
            "prompt": "mood",
            "model": ENTRY,
            "adapter": "mood",
            "sampling": {"max_tokens": 4},
        }
        self.specification["references"]["train_share"] = 0.6
        self.specification["evaluation"]["gates"]["accuracy"]["minimum"] = 0.58
        self.specification["finetuning"] = {
            "mood": {"prompt": "mood", "model": ENTRY, "rank": 4, "epochs": 2, "batch_size": 8, "max_minutes": 2}
        }
        self.write_specification()

    @property
    def job(self) -> str:
        """Name of the job that trains."""
        return f"{NAME}_finetune"
