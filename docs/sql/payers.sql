-- Who pays, as `top --by cr3`, `rip`, `vcpu` and `gva-range --granule 2M` have it. CR3 is without
-- its low 12 bits and bit 63. What needs replay (shadow pages, guest tables) or symbols is `top`'s.
WITH keys AS (
  SELECT host, date, trace, vm, total_ns, seq, 'cr3' AS payer,
         address((cr3 - cr3 % 4096)
           - CASE WHEN cr3 >= 9223372036854775808 THEN 9223372036854775808 ELSE 0 END) AS name
  FROM faults
  UNION ALL
  SELECT host, date, trace, vm, total_ns, seq, 'rip', address(rip) FROM faults
  UNION ALL
  SELECT host, date, trace, vm, total_ns, seq, 'vcpu', CAST(vcpu AS STRING) FROM faults
  UNION ALL
  SELECT host, date, trace, vm, total_ns, seq, 'gva_2m', address(gva - gva % 2097152)
  FROM faults)
SELECT host, date, trace, vm, payer, name,
       count(*) AS count, CAST(sum(total_ns) AS BIGINT) AS total_ns, max(total_ns) AS worst_ns
FROM keys
WHERE name IS NOT NULL
GROUP BY host, date, trace, vm, payer, name
ORDER BY host, date, trace, vm, payer, total_ns DESC, name;
