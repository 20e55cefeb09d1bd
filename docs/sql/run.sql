-- Where the time of each VM's run went: its first record to its last moment, once for each of its
-- vCPUs, and of that the time in faults.
WITH seen AS (
  SELECT host, date, trace, vm,
         min(time_ns) AS first_ns, max(time_ns + coalesce(total_ns, 0)) AS last_ns,
         sum(CASE WHEN kind = 'faults' THEN total_ns ELSE 0 END) AS faults_ns
  FROM records WHERE kind <> 'losses'
  GROUP BY host, date, trace, vm),
known AS (
  SELECT host, date, trace, vm, vcpu FROM vcpus
  UNION
  SELECT host, date, trace, vm, vcpu FROM records
  WHERE vcpu IS NOT NULL AND kind <> 'losses' AND kind <> 'keyframes'),
counted AS (
  SELECT host, date, trace, vm, count(*) AS vcpus FROM known GROUP BY host, date, trace, vm)
SELECT seen.host, seen.date, seen.trace, seen.vm, vcpus,
       CAST(last_ns - first_ns AS BIGINT) AS wall_ns,
       CAST((last_ns - first_ns) * vcpus AS BIGINT) AS total_ns,
       CAST(faults_ns AS BIGINT) AS faults_ns,
       CAST((last_ns - first_ns) * vcpus - faults_ns AS BIGINT) AS not_attributed_ns
FROM seen JOIN counted
  ON seen.host = counted.host AND seen.date = counted.date
  AND seen.trace = counted.trace AND seen.vm = counted.vm
ORDER BY seen.host, seen.date, seen.trace, seen.vm;
