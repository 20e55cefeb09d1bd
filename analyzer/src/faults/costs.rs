//! What each class of fault cost.

use events::Class;
use polars::prelude::*;
use serde::Serialize;

use super::{FaultColumns, FaultStep};

/// The cost of one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassCost {
    /// Faults.
    pub count: u64,
    /// Faults whose GVA is in the workload's range.
    pub in_range: u64,
    /// Their time from the first to the last moment seen, ns.
    pub total_ns: u64,
    /// Median, ns.
    pub p50_ns: u64,
    /// 95th percentile, ns.
    pub p95_ns: u64,
    /// 99th percentile, ns.
    pub p99_ns: u64,
    /// Steps that the trace shows, in their order; an absent step is not listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepCost>,
}

/// The cost of one step of a class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepCost {
    /// Name of the step.
    #[serde(serialize_with = "step_name")]
    pub step: FaultStep,
    /// Faults that have it.
    pub count: u64,
    /// Time in it, ns.
    pub total_ns: u64,
    /// Median, ns.
    pub p50_ns: u64,
}

fn step_name<S: serde::Serializer>(step: &FaultStep, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(step.name())
}

/// Faults of one class in one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseCost {
    /// Number of the phase, from 0 (before the first mark).
    pub phase: u16,
    /// The class.
    pub class: Class,
    /// Faults.
    pub count: u64,
    /// Their time, ns.
    pub total_ns: u64,
}

/// Costs of every class that occurs, in the order of [`Class::ALL`].
pub fn by_class(columns: &FaultColumns) -> PolarsResult<Vec<(Class, ClassCost)>> {
    let quantile = |q: f64| {
        col("total_ns")
            .quantile(lit(q), QuantileMethod::Nearest)
            .cast(DataType::UInt64)
    };
    let frame = columns
        .frame()?
        .lazy()
        .group_by([col("class")])
        .agg([
            len().cast(DataType::UInt64).alias("count"),
            col("in_range")
                .cast(DataType::UInt64)
                .sum()
                .alias("in_range"),
            col("total_ns").cast(DataType::UInt64).sum().alias("sum"),
            quantile(0.50).alias("p50"),
            quantile(0.95).alias("p95"),
            quantile(0.99).alias("p99"),
        ])
        .sort(["class"], SortMultipleOptions::default())
        .collect()?;
    let mut costs = Vec::new();
    for row in 0..frame.height() {
        let cell = |name: &str| number(&frame, name, row);
        let Some(class) = u8::try_from(cell("class")?).ok().and_then(Class::from_raw) else {
            continue;
        };
        costs.push((
            class,
            ClassCost {
                count: cell("count")?,
                in_range: cell("in_range")?,
                total_ns: cell("sum")?,
                p50_ns: cell("p50")?,
                p95_ns: cell("p95")?,
                p99_ns: cell("p99")?,
                steps: Vec::new(),
            },
        ));
    }
    for step in FaultStep::ALL {
        for (class, cost) in by_step(columns, step)? {
            if let Some((_, of)) = costs.iter_mut().find(|(other, _)| *other == class) {
                of.steps.push(cost);
            }
        }
    }
    Ok(costs)
}

fn by_step(columns: &FaultColumns, step: FaultStep) -> PolarsResult<Vec<(Class, StepCost)>> {
    let Some(frame) = columns.step_frame(step)? else {
        return Ok(Vec::new());
    };
    let frame = frame
        .lazy()
        .filter(col("ns").is_not_null())
        .group_by([col("class")])
        .agg([
            len().cast(DataType::UInt64).alias("count"),
            col("ns").cast(DataType::UInt64).sum().alias("sum"),
            col("ns")
                .quantile(lit(0.5), QuantileMethod::Nearest)
                .cast(DataType::UInt64)
                .alias("p50"),
        ])
        .collect()?;
    let mut costs = Vec::new();
    for row in 0..frame.height() {
        let cell = |name: &str| number(&frame, name, row);
        let Some(class) = u8::try_from(cell("class")?).ok().and_then(Class::from_raw) else {
            continue;
        };
        costs.push((
            class,
            StepCost {
                step,
                count: cell("count")?,
                total_ns: cell("sum")?,
                p50_ns: cell("p50")?,
            },
        ));
    }
    Ok(costs)
}

/// Counts and time by phase and class, in the order of both.
pub fn by_phase(columns: &FaultColumns) -> PolarsResult<Vec<PhaseCost>> {
    let frame = columns
        .frame()?
        .lazy()
        .group_by([col("phase"), col("class")])
        .agg([
            len().cast(DataType::UInt64).alias("count"),
            col("total_ns").cast(DataType::UInt64).sum().alias("sum"),
        ])
        .sort(["phase", "class"], SortMultipleOptions::default())
        .collect()?;
    let mut costs = Vec::new();
    for row in 0..frame.height() {
        let cell = |name: &str| number(&frame, name, row);
        let Some(class) = u8::try_from(cell("class")?).ok().and_then(Class::from_raw) else {
            continue;
        };
        let phase = u16::try_from(cell("phase")?).unwrap_or(u16::MAX);
        costs.push(PhaseCost {
            phase,
            class,
            count: cell("count")?,
            total_ns: cell("sum")?,
        });
    }
    Ok(costs)
}

fn number(frame: &DataFrame, name: &str, row: usize) -> PolarsResult<u64> {
    let value = frame.column(name)?.get(row)?;
    Ok(value.extract::<u64>().unwrap_or_default())
}
