-- Views over a folder of traces, for DuckDB. Run in the folder that has host=.../date=.../NAME.trace:
--   duckdb -init duckdb.sql -f classes.sql
-- An older trace lacks columns that came later: they are null.
CREATE OR REPLACE MACRO trace_of(path) AS regexp_extract(path, '([^/]+)/[^/]+/[^/]+$', 1);
CREATE OR REPLACE MACRO host_of(path) AS regexp_extract(path, 'host=([^/]+)/', 1);
CREATE OR REPLACE MACRO date_of(path) AS regexp_extract(path, 'date=([^/]+)/', 1);
-- Addresses are unsigned numbers of 64 bits, which DuckDB has.
CREATE OR REPLACE MACRO address(number) AS '0x' || lower(to_hex(number::UBIGINT));

CREATE OR REPLACE VIEW traces AS
SELECT host_of(filename) AS host, date_of(filename) AS date,
       regexp_extract(filename, '([^/]+)/meta.json$', 1) AS trace,
       complete, "end".records AS numbers, coalesce(kept."begin".seq, 0) AS first_seq, vms
FROM read_json('host=*/date=*/*.trace/meta.json', filename = true, hive_partitioning = false,
               maximum_object_size = 67108864,
               columns = {complete: 'BOOLEAN', "end": 'STRUCT(records UBIGINT)',
                          kept: 'STRUCT("begin" STRUCT(seq UBIGINT))',
                          vms: 'STRUCT(vm USMALLINT, vcpus USMALLINT[])[]'});

-- `attach --keep` drops what came before first_seq; of its first segments, some rows are older.
CREATE OR REPLACE VIEW begins AS SELECT host, date, trace, first_seq FROM traces;

CREATE OR REPLACE VIEW faults AS
WITH files AS (
  SELECT host_of(filename) AS host, date_of(filename) AS date, trace_of(filename) AS trace,
         * EXCLUDE (filename)
  FROM read_parquet('host=*/date=*/*.trace/faults/*.parquet',
                    filename = true, union_by_name = true, hive_partitioning = false))
SELECT * EXCLUDE (first_seq) FROM files LEFT JOIN begins USING (host, date, trace)
WHERE seq >= coalesce(first_seq, 0);

CREATE OR REPLACE VIEW entries AS
WITH files AS (
  SELECT host_of(filename) AS host, date_of(filename) AS date, trace_of(filename) AS trace,
         * EXCLUDE (filename)
  FROM read_parquet('host=*/date=*/*.trace/entries/*.parquet',
                    filename = true, union_by_name = true, hive_partitioning = false))
SELECT * EXCLUDE (first_seq) FROM files LEFT JOIN begins USING (host, date, trace)
WHERE seq >= coalesce(first_seq, 0);

CREATE OR REPLACE VIEW marks AS
WITH files AS (
  SELECT host_of(filename) AS host, date_of(filename) AS date, trace_of(filename) AS trace,
         * EXCLUDE (filename)
  FROM read_parquet('host=*/date=*/*.trace/marks/*.parquet',
                    filename = true, union_by_name = true, hive_partitioning = false))
SELECT * EXCLUDE (first_seq) FROM files LEFT JOIN begins USING (host, date, trace)
WHERE seq >= coalesce(first_seq, 0);

-- What all kinds of record have. A kind without rows has no folder.
CREATE OR REPLACE VIEW records AS
WITH files AS (
  SELECT host_of(filename) AS host, date_of(filename) AS date, trace_of(filename) AS trace,
         regexp_extract(filename, '([^/]+)/[^/]+$', 1) AS kind, seq, vm, vcpu, time_ns, total_ns
  FROM read_parquet('host=*/date=*/*.trace/*/*.parquet',
                    filename = true, union_by_name = true, hive_partitioning = false))
SELECT * EXCLUDE (first_seq) FROM files LEFT JOIN begins USING (host, date, trace)
WHERE kind = 'losses' OR seq >= coalesce(first_seq, 0);

CREATE OR REPLACE VIEW vcpus AS
WITH vms AS (SELECT host, date, trace, unnest(vms) AS of FROM traces)
SELECT host, date, trace, of.vm AS vm, unnest(of.vcpus) AS vcpu FROM vms;
