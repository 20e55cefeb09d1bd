-- Records of entries by cause. Those of `reread` and some others may have found the value that was
-- there before: which ones, replay knows (`summary` prints them apart).
SELECT host, date, trace, vm, cause, count(*) AS count
FROM entries
GROUP BY host, date, trace, vm, cause
ORDER BY host, date, trace, vm, cause;
