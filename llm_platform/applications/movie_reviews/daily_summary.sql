-- Reviews by the day on which they were answered. 'llm-platform contract check movie_reviews' holds this query against
-- every change of the contract, and the asset 'daily_summary' runs it.
SELECT
    CAST(answered_at AS DATE) AS day,
    count(*) AS reviews,
    count(*) FILTER (answer = 'HAPPY') AS happy,
    round(avg(CASE answer WHEN 'HAPPY' THEN 1.0 WHEN 'SAD' THEN 0.0 END), 4) AS happy_share,
    round(avg(confidence), 4) AS mean_confidence,
    count(*) FILTER (status <> 'valid') AS without_an_answer
FROM published_v1
GROUP BY day
ORDER BY day NULLS LAST
