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
    let mut costs = Vec::new();
    for part in columns.frame()?.partition_by(["class"], true)? {
        let Some(class) = class(&part)? else { continue };
        let times = part.column("total_ns")?;
        costs.push((
            class,
            ClassCost {
                count: part.height() as u64,
                in_range: sum(part.column("in_range")?)?,
                total_ns: sum(times)?,
                p50_ns: quantile(times, 0.50)?,
                p95_ns: quantile(times, 0.95)?,
                p99_ns: quantile(times, 0.99)?,
                steps: Vec::new(),
            },
        ));
    }
    costs.sort_by_key(|(class, _)| *class as u8);
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
    let mut costs = Vec::new();
    for part in frame.partition_by(["class"], true)? {
        let Some(class) = class(&part)? else { continue };
        let times = part.column("ns")?.drop_nulls();
        if times.is_empty() {
            continue;
        }
        costs.push((
            class,
            StepCost {
                step,
                count: times.len() as u64,
                total_ns: sum(&times)?,
                p50_ns: quantile(&times, 0.50)?,
            },
        ));
    }
    Ok(costs)
}

/// Counts and time by phase and class, in the order of both.
pub fn by_phase(columns: &FaultColumns) -> PolarsResult<Vec<PhaseCost>> {
    let mut costs = Vec::new();
    for part in columns.frame()?.partition_by(["phase", "class"], true)? {
        let (Some(class), Some(phase)) = (class(&part)?, part.column("phase")?.u16()?.first())
        else {
            continue;
        };
        costs.push(PhaseCost {
            phase,
            class,
            count: part.height() as u64,
            total_ns: sum(part.column("total_ns")?)?,
        });
    }
    costs.sort_by_key(|cost| (cost.phase, cost.class as u8));
    Ok(costs)
}

/// The class of all rows of a part.
fn class(part: &DataFrame) -> PolarsResult<Option<Class>> {
    Ok(part
        .column("class")?
        .u8()?
        .first()
        .and_then(Class::from_raw))
}

/// In 64 bits: a column of 32 would wrap.
fn sum(column: &Column) -> PolarsResult<u64> {
    let sum = column.cast(&DataType::UInt64)?.sum_reduce()?;
    Ok(sum.value().extract::<u64>().unwrap_or_default())
}

fn quantile(times: &Column, quantile: f64) -> PolarsResult<u64> {
    let time = times.quantile_reduce(quantile, QuantileMethod::Nearest)?;
    Ok(time.value().extract::<u64>().unwrap_or_default())
}
