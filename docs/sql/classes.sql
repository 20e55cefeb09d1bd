-- Cost by class, as `summary` has it: a percentile is the time of a fault, by nearest rank;
-- one with no fault beyond it is null.
WITH ranked AS (
  SELECT host, date, trace, vm, class, total_ns,
         row_number() OVER (PARTITION BY host, date, trace, vm, class ORDER BY total_ns) - 1
           AS place,
         count(*) OVER (PARTITION BY host, date, trace, vm, class) - 1 AS last
  FROM faults)
SELECT host, date, trace, vm, class,
       count(*) AS count,
       CAST(sum(total_ns) AS BIGINT) AS total_ns,
       CASE WHEN count(*) >= 20
            THEN max(CASE WHEN place = round(last * CAST(0.05 AS DOUBLE)) THEN total_ns END)
       END AS p5_ns,
       max(CASE WHEN place = round(last * CAST(0.50 AS DOUBLE)) THEN total_ns END) AS p50_ns,
       CASE WHEN count(*) >= 20
            THEN max(CASE WHEN place = round(last * CAST(0.95 AS DOUBLE)) THEN total_ns END)
       END AS p95_ns,
       CASE WHEN count(*) >= 100
            THEN max(CASE WHEN place = round(last * CAST(0.99 AS DOUBLE)) THEN total_ns END)
       END AS p99_ns,
       max(total_ns) AS max_ns
FROM ranked
GROUP BY host, date, trace, vm, class
ORDER BY host, date, trace, vm, class;
