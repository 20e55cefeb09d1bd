-- Records that are missing: sequence numbers that no record has. Losses that the probes counted
-- themselves are in the kind `losses`.
WITH seen AS (
  SELECT host, date, trace, count(DISTINCT seq) AS numbers, max(seq) + 1 AS next
  FROM records WHERE kind <> 'losses'
  GROUP BY host, date, trace)
SELECT traces.host, traces.date, traces.trace, complete,
       CAST(greatest(next, coalesce(traces.numbers, 0)) - first_seq - seen.numbers AS BIGINT) AS lost
FROM traces JOIN seen
  ON traces.host = seen.host AND traces.date = seen.date AND traces.trace = seen.trace
ORDER BY traces.host, traces.date, traces.trace;
