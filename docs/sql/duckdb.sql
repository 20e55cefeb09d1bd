-- Views over a folder of traces, for DuckDB. Run in the folder that has host=.../date=.../NAME.trace:
--   duckdb -init duckdb.sql -f classes.sql
-- An older trace lacks columns that came later: they are null.
CREATE OR REPLACE MACRO trace_of(path) AS regexp_extract(path, '([^/]+)/[^/]+/[^/]+$', 1);
CREATE OR REPLACE MACRO host_of(path) AS regexp_extract(path, 'host=([^/]+)/', 1);
CREATE OR REPLACE MACRO date_of(path) AS regexp_extract(path, 'date=([^/]+)/', 1);
-- Addresses are unsigned numbers of 64 bits, which DuckDB has.
CREATE OR REPLACE MACRO address(number) AS '0x' || lower(to_hex(number::UBIGINT));

CREATE OR REPLACE VIEW faults AS
SELECT host_of(filename) AS host, date_of(filename) AS date, trace_of(filename) AS trace,
       * EXCLUDE (filename)
FROM read_parquet('host=*/date=*/*.trace/faults/*.parquet',
                  filename = true, union_by_name = true, hive_partitioning = false);

CREATE OR REPLACE VIEW entries AS
SELECT host_of(filename) AS host, date_of(filename) AS date, trace_of(filename) AS trace,
       * EXCLUDE (filename)
FROM read_parquet('host=*/date=*/*.trace/entries/*.parquet',
                  filename = true, union_by_name = true, hive_partitioning = false);

CREATE OR REPLACE VIEW marks AS
SELECT host_of(filename) AS host, date_of(filename) AS date, trace_of(filename) AS trace,
       * EXCLUDE (filename)
FROM read_parquet('host=*/date=*/*.trace/marks/*.parquet',
                  filename = true, union_by_name = true, hive_partitioning = false);

-- What all kinds of record have. A kind without rows has no folder.
CREATE OR REPLACE VIEW records AS
SELECT host_of(filename) AS host, date_of(filename) AS date, trace_of(filename) AS trace,
       regexp_extract(filename, '([^/]+)/[^/]+$', 1) AS kind, seq, vm, vcpu, time_ns, total_ns
FROM read_parquet('host=*/date=*/*.trace/*/*.parquet',
                  filename = true, union_by_name = true, hive_partitioning = false);

CREATE OR REPLACE VIEW traces AS
SELECT host_of(filename) AS host, date_of(filename) AS date,
       regexp_extract(filename, '([^/]+)/meta.json$', 1) AS trace,
       complete, "end".records AS numbers, vms
FROM read_json('host=*/date=*/*.trace/meta.json', filename = true, hive_partitioning = false,
               maximum_object_size = 67108864,
               columns = {complete: 'BOOLEAN', "end": 'STRUCT(records UBIGINT)',
                          vms: 'STRUCT(vm USMALLINT, vcpus USMALLINT[])[]'});

CREATE OR REPLACE VIEW vcpus AS
WITH vms AS (SELECT host, date, trace, unnest(vms) AS of FROM traces)
SELECT host, date, trace, of.vm AS vm, unnest(of.vcpus) AS vcpu FROM vms;
