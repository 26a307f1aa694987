"""A team's own asset: a word on the tone of reviews, asked of a pinned model and recorded like every other call.

Loaded beside the platform's graph with LLM_PLATFORM_MODULES=review_tones and this folder on PYTHONPATH.
"""

import dagster as dg

from llm_platform.resources.nim import NIMResource
from llm_platform.resources.warehouse import WarehouseResource

TONES = ["funny", "sad", "angry", "bored", "excited"]


@dg.asset(deps=[dg.AssetKey(["movie_reviews", "documents"])], group_name="reviews", pool="nim-smollm2-135m")
def review_tones(nim_smollm2_135m: NIMResource, warehouse: WarehouseResource) -> dg.MaterializeResult:
    """The tone of ten reviews, told from how they begin."""
    with warehouse.open(read_only=True) as lake:
        reviews = lake.application("movie_reviews").documents.table().to_pandas().head(10)
    rows = {row.document_id: f"Which word fits this review?\n{row.text[:120]}" for row in reviews.itertuples()}
    answers = nim_smollm2_135m.complete(rows, choices=TONES, max_tokens=8)
    counts = {tone: sum(answer.answer == tone for answer in answers) for tone in TONES}
    return dg.MaterializeResult(metadata={"dagster/row_count": len(answers), **counts})


defs = dg.Definitions(assets=[review_tones])
