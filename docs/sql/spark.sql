-- Views over a folder of traces, for Spark 4. `${tree}` is the folder that has
-- host=.../date=.../NAME.trace:
--   spark-sql --hivevar tree=/srv/traces -i spark.sql -f classes.sql
-- An older trace lacks columns that came later: they are null.
CREATE OR REPLACE TEMPORARY FUNCTION trace_of(path STRING) RETURNS STRING
RETURN regexp_extract(path, '([^/]+)/[^/]+/[^/]+$', 1);
CREATE OR REPLACE TEMPORARY FUNCTION host_of(path STRING) RETURNS STRING
RETURN regexp_extract(path, 'host=([^/]+)/', 1);
CREATE OR REPLACE TEMPORARY FUNCTION date_of(path STRING) RETURNS STRING
RETURN regexp_extract(path, 'date=([^/]+)/', 1);
-- Spark has no unsigned numbers: it reads those of 64 bits as DECIMAL(20,0), which holds them all.
CREATE OR REPLACE TEMPORARY FUNCTION address(number DECIMAL(20,0)) RETURNS STRING
RETURN concat('0x', lower(conv(CAST(number AS STRING), 10, 16)));

CREATE OR REPLACE TEMPORARY VIEW meta_files
(complete BOOLEAN, `end` STRUCT<records: DECIMAL(20,0)>,
 kept STRUCT<`begin`: STRUCT<seq: DECIMAL(20,0)>>,
 vms ARRAY<STRUCT<vm: INT, vcpus: ARRAY<INT>>>) USING json
OPTIONS (path '${tree}/host=*/date=*/*.trace/meta.json', multiLine 'true');
CREATE OR REPLACE TEMPORARY VIEW traces AS
SELECT host_of(path) AS host, date_of(path) AS date,
       regexp_extract(path, '([^/]+)/meta.json$', 1) AS trace,
       complete, `end`.records AS numbers, coalesce(kept.`begin`.seq, 0) AS first_seq, vms
FROM (SELECT input_file_name() AS path, * FROM meta_files);

-- `attach --keep` drops what came before first_seq; of its first segments, some rows are older.
CREATE OR REPLACE TEMPORARY VIEW begins AS SELECT host, date, trace, first_seq FROM traces;

-- Times of steps have 64 bits since version 0.2, before 32: the columns are named, since Spark does
-- not merge the two, and its vectorized reader reads only one of them.
SET spark.sql.parquet.enableVectorizedReader = false;
CREATE OR REPLACE TEMPORARY VIEW fault_files
(seq DECIMAL(20,0), time_ns DECIMAL(20,0), vm INT, vcpu INT, class STRING, gva DECIMAL(20,0),
 error_code BIGINT, cr3 DECIMAL(20,0), root DECIMAL(20,0), rip DECIMAL(20,0),
 gpte5 DECIMAL(20,0), gpte4 DECIMAL(20,0), gpte3 DECIMAL(20,0), gpte2 DECIMAL(20,0),
 gpte1 DECIMAL(20,0), gpa DECIMAL(20,0), slot INT, hva DECIMAL(20,0), pfn DECIMAL(20,0),
 sptep DECIMAL(20,0), spte DECIMAL(20,0), level SMALLINT, created SMALLINT, reused SMALLINT,
 zapped SMALLINT, total_ns BIGINT, exit_ns BIGINT, walk_ns BIGINT, pfn_ns BIGINT, hva_ns BIGINT,
 tables_ns BIGINT, pfn_tables_ns BIGINT, write_ns BIGINT, inject_ns BIGINT, emulate_ns BIGINT,
 entry_ns BIGINT, errno SMALLINT, switches INT) USING parquet
OPTIONS (path '${tree}/host=*/date=*/*.trace/faults');
CREATE OR REPLACE TEMPORARY VIEW faults AS
WITH files AS (
  SELECT host_of(path) AS host, date_of(path) AS date, trace_of(path) AS trace, * EXCEPT (path)
  FROM (SELECT input_file_name() AS path, * FROM fault_files))
SELECT * EXCEPT (first_seq) FROM files LEFT JOIN begins USING (host, date, trace)
WHERE seq >= coalesce(first_seq, 0);

CREATE OR REPLACE TEMPORARY VIEW entry_files USING parquet
OPTIONS (path '${tree}/host=*/date=*/*.trace/entries', mergeSchema 'true');
CREATE OR REPLACE TEMPORARY VIEW entries AS
WITH files AS (
  SELECT host_of(path) AS host, date_of(path) AS date, trace_of(path) AS trace, * EXCEPT (path)
  FROM (SELECT input_file_name() AS path, * FROM entry_files))
SELECT * EXCEPT (first_seq) FROM files LEFT JOIN begins USING (host, date, trace)
WHERE seq >= coalesce(first_seq, 0);

CREATE OR REPLACE TEMPORARY VIEW mark_files USING parquet
OPTIONS (path '${tree}/host=*/date=*/*.trace/marks', mergeSchema 'true');
CREATE OR REPLACE TEMPORARY VIEW marks AS
WITH files AS (
  SELECT host_of(path) AS host, date_of(path) AS date, trace_of(path) AS trace, * EXCEPT (path)
  FROM (SELECT input_file_name() AS path, * FROM mark_files))
SELECT * EXCEPT (first_seq) FROM files LEFT JOIN begins USING (host, date, trace)
WHERE seq >= coalesce(first_seq, 0);

-- What all kinds of record have. A kind without rows has no folder.
CREATE OR REPLACE TEMPORARY VIEW record_files
(seq DECIMAL(20,0), vm INT, vcpu INT, time_ns DECIMAL(20,0), total_ns BIGINT) USING parquet
OPTIONS (path '${tree}/host=*/date=*/*.trace/*', pathGlobFilter '*.parquet');
CREATE OR REPLACE TEMPORARY VIEW records AS
WITH files AS (
  SELECT host_of(path) AS host, date_of(path) AS date, trace_of(path) AS trace,
         regexp_extract(path, '([^/]+)/[^/]+$', 1) AS kind, seq, vm, vcpu, time_ns, total_ns
  FROM (SELECT input_file_name() AS path, * FROM record_files))
SELECT * EXCEPT (first_seq) FROM files LEFT JOIN begins USING (host, date, trace)
WHERE kind = 'losses' OR seq >= coalesce(first_seq, 0);

CREATE OR REPLACE TEMPORARY VIEW vcpus AS
WITH of_vms AS (SELECT host, date, trace, explode(vms) AS of FROM traces)
SELECT host, date, trace, of.vm AS vm, explode(of.vcpus) AS vcpu FROM of_vms;
