-- Time in each step, by class. `hva` is a part of `pfn`, and all of it where no walk is seen. A step
-- that the platform does not show is null in every fault, and has no row.
WITH steps AS (
  SELECT host, date, trace, vm, class, 'exit' AS step, exit_ns AS ns FROM faults
  UNION ALL SELECT host, date, trace, vm, class, 'walk', walk_ns FROM faults
  UNION ALL SELECT host, date, trace, vm, class, 'pfn', coalesce(pfn_ns, hva_ns) FROM faults
  UNION ALL SELECT host, date, trace, vm, class, 'hva', hva_ns FROM faults
  UNION ALL SELECT host, date, trace, vm, class, 'tables', tables_ns FROM faults
  UNION ALL SELECT host, date, trace, vm, class, 'pfn_tables', pfn_tables_ns FROM faults
  UNION ALL SELECT host, date, trace, vm, class, 'write', write_ns FROM faults
  UNION ALL SELECT host, date, trace, vm, class, 'inject', inject_ns FROM faults
  UNION ALL SELECT host, date, trace, vm, class, 'emulate', emulate_ns FROM faults
  UNION ALL SELECT host, date, trace, vm, class, 'entry', entry_ns FROM faults)
SELECT host, date, trace, vm, class, step,
       count(*) AS count, CAST(sum(ns) AS BIGINT) AS total_ns
FROM steps
WHERE ns IS NOT NULL
GROUP BY host, date, trace, vm, class, step
ORDER BY host, date, trace, vm, class, step;
