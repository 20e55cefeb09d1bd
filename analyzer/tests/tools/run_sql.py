"""Runs the SQL of docs/sql over a folder of traces; prints the rows as JSON.

    run_sql.py duckdb|spark SQL TREE
"""

import json
import os
import pathlib
import sys

QUERIES = ["classes", "steps", "run", "phases", "changes", "lost", "payers"]


def statements(path):
    text = path.read_text()
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return [one for one in "\n".join(lines).split(";") if one.strip()]


def duckdb_rows(sql, tree):
    import duckdb

    os.chdir(tree)
    connection = duckdb.connect()
    for statement in statements(sql / "duckdb.sql"):
        connection.execute(statement)

    def rows(query):
        result = connection.execute(query)
        names = [column[0] for column in result.description]
        return [dict(zip(names, row)) for row in result.fetchall()]

    return rows


def spark_rows(sql, tree):
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.warehouse.dir", str(tree / "warehouse"))
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    for statement in statements(sql / "spark.sql"):
        session.sql(statement.replace("${tree}", str(tree)))
    return lambda query: [row.asDict() for row in session.sql(query).collect()]


def main(engine, sql, tree):
    sql, tree = pathlib.Path(sql).resolve(), pathlib.Path(tree).resolve()
    rows = {"duckdb": duckdb_rows, "spark": spark_rows}[engine](sql, tree)
    results = {}
    for name in QUERIES:
        (query,) = statements(sql / f"{name}.sql")
        results[name] = rows(query)
    print(json.dumps(results, default=int))


if __name__ == "__main__":
    main(*sys.argv[1:])
