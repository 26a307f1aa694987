"""A reader of the published reviews, as an example of one: how happy they are, day by day.

It depends on the contract alone. Whatever changes behind it, a prompt, a model, a promotion, this asset is stale when
the published rows are others, and fails with the name of the column when the contract does not carry its query.
"""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
import dagster as dg

from llm_platform.defs.failures import dagster_failures
from llm_platform.defs.graph import column_schema
from llm_platform.defs.readers import PublishedTable
from llm_platform.resources.warehouse import WarehouseResource

QUERY = "daily_summary.sql"


def assets(published: PublishedTable) -> list[dg.AssetsDefinition]:
    """One asset: a row for each day."""

    @dg.asset(
        key=published.key("daily_summary"),
        deps=[published.asset],
        group_name=published.group,
        owners=published.owners,
        kinds={"duckdb", "parquet"},
        description="Reviews by the day on which they were answered: how many, how happy, how sure.",
    )
    def daily_summary(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
        with dagster_failures(context):
            days = published.query(warehouse, QUERY)
            path = published.write("daily_summary", days)
        return dg.MaterializeResult(
            data_version=published.version(days),
            metadata={
                "dagster/row_count": days.num_rows,
                "reviews": sum(days["reviews"].to_pylist()),
                "dagster/column_schema": column_schema(days.schema),
                "export": dg.MetadataValue.text(str(path)),
            },
        )

    return [daily_summary]
