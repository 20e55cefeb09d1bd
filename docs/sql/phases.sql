-- Faults by phase: what comes after a mark belongs to it. Phase 0 is before the first mark.
WITH numbered AS (
  SELECT host, date, trace, vm, seq, name,
         row_number() OVER (PARTITION BY host, date, trace, vm ORDER BY seq) AS phase
  FROM marks WHERE keyframe IS NULL),
both_kinds AS (
  SELECT host, date, trace, vm, seq, phase, CAST(NULL AS STRING) AS class, 0 AS total_ns
  FROM numbered
  UNION ALL
  SELECT host, date, trace, vm, seq, NULL, class, total_ns FROM faults),
placed AS (
  SELECT host, date, trace, vm, class, total_ns,
         coalesce(max(phase) OVER (PARTITION BY host, date, trace, vm ORDER BY seq), 0) AS phase
  FROM both_kinds)
SELECT placed.host, placed.date, placed.trace, placed.vm, placed.phase,
       max(coalesce(name, '(before the first mark)')) AS name, class,
       count(*) AS count, CAST(sum(total_ns) AS BIGINT) AS total_ns
FROM placed LEFT JOIN numbered
  ON placed.host = numbered.host AND placed.date = numbered.date
  AND placed.trace = numbered.trace AND placed.vm = numbered.vm
  AND placed.phase = numbered.phase
WHERE class IS NOT NULL
GROUP BY placed.host, placed.date, placed.trace, placed.vm, placed.phase, class
ORDER BY placed.host, placed.date, placed.trace, placed.vm, placed.phase, class;
