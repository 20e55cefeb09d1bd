//! Made-up runs, whose noise is as that of real ones: neighbours are alike, and the machine drifts.

use events::Class;
use fastrand::Rng;

use super::{
    blocks::Blocks,
    bootstrap::normal,
    change::{Change, Measure, Verdict},
    compare::{ClassRow, Sides},
    run::Run,
};
use crate::faults::FaultStep;

/// Faults of each class in each phase: enough for 10 % to stand out in one run a side.
const FAULTS: u64 = 3000;
const CLASSES: [Class; 3] = [Class::Guest, Class::Shadow, Class::WriteProtected];
const PHASES: [&str; 2] = ["map", "touch"];

/// How runs differ.
#[derive(Clone, Copy)]
struct Noise {
    /// Standard deviation of the whole run, of all classes together.
    run: f64,
    /// Of the slow moments within a run.
    slow: f64,
    /// Of each fault.
    fault: f64,
}

const NOISE: Noise = Noise {
    run: 0.0,
    slow: 0.01,
    fault: 0.2,
};

/// A run in which shadow faults take `factor` times as long, to write their leaf; the walk does not.
fn run(seed: u64, noise: Noise, factor: f64) -> Run {
    let mut random = Rng::with_seed(seed);
    let mut run = Run::default();
    let whole = normal(&mut random) * noise.run;
    // Each fault is nearly as slow as the one before: the moment lasts for some 50.
    let (mut slow, mut time) = (0.0, 0);
    for phase in PHASES {
        run.phases.push(phase.to_owned());
        for _ in 0..FAULTS {
            for class in CLASSES {
                slow = slow * 0.98 + normal(&mut random) * noise.slow * 0.2;
                let factor = if class == Class::Shadow { factor } else { 1.0 };
                let ns = 5_000.0 * (class as u8 + 1) as f64;
                let ns = ns * factor * (whole + slow + normal(&mut random) * noise.fault).exp();
                time += ns as u64 + 1_000;
                let cell = run.cells.entry((phase.to_owned(), class)).or_default();
                if cell.is_empty() {
                    cell.push(Blocks::with_times());
                }
                cell[0].push(time, Some(ns as u64));
                let walk = 1_000.0 * (whole + slow + normal(&mut random) * noise.fault).exp();
                for (step, ns) in [(FaultStep::Walk, walk), (FaultStep::Write, ns)] {
                    let cell = run.steps.entry((class, step)).or_default();
                    if cell.is_empty() {
                        cell.push(Blocks::with_times());
                    }
                    cell[0].push(time, Some(ns as u64));
                }
            }
        }
    }
    run
}

fn rows(base: &[Run], new: &[Run]) -> Vec<ClassRow> {
    let sides = Sides {
        base,
        new,
        times: true,
        least_percent: super::LEAST_PERCENT,
        incomplete: false,
    };
    sides.classes().concat()
}

fn changed(rows: &[ClassRow]) -> Vec<(Class, Change)> {
    let changes = rows
        .iter()
        .flat_map(|row| row.changes.iter().map(|change| (row.class, *change)));
    changes
        .filter(|(_, change)| change.verdict.is_change())
        .collect()
}

fn runs(seeds: std::ops::Range<u64>, noise: Noise, factor: f64) -> Vec<Run> {
    seeds.map(|seed| run(seed, noise, factor)).collect()
}

#[test]
fn equal_runs_are_within_noise_and_ten_percent_in_one_class_are_found() {
    let (mut alarms, mut found) = (0, 0);
    for pair in 0..20 {
        let base = runs(2 * pair..2 * pair + 1, NOISE, 1.0);
        let equal = runs(2 * pair + 1..2 * pair + 2, NOISE, 1.0);
        let slower = runs(2 * pair + 1..2 * pair + 2, NOISE, 1.1);
        alarms += u32::from(!changed(&rows(&base, &equal)).is_empty());
        let changes = changed(&rows(&base, &slower));
        assert!(
            changes.iter().all(|(class, _)| *class == Class::Shadow),
            "{changes:?}"
        );
        let is_median = |(_, change): &(Class, Change)| {
            change.measure == Measure::Median && change.verdict == Verdict::Higher
        };
        found += u32::from(changes.iter().any(is_median));
    }
    assert!(alarms <= 1, "{alarms} of 20 pairs of equal runs");
    assert!(found >= 19, "{found} of 20 changes");
}

/// All classes of a run are 5 % slower or faster than those of another.
const DRIFTING: Noise = Noise { run: 0.05, ..NOISE };

#[test]
fn a_drift_of_the_machine_is_noise_with_one_run_and_with_several() {
    let (mut one, mut four) = (0, 0);
    for pair in 0..20 {
        let seed = 1_000 + 8 * pair;
        let base = runs(seed..seed + 4, DRIFTING, 1.0);
        let new = runs(seed + 4..seed + 8, DRIFTING, 1.0);
        one += u32::from(!changed(&rows(&base[..1], &new[..1])).is_empty());
        four += u32::from(!changed(&rows(&base, &new)).is_empty());
    }
    assert!(one <= 1 && four <= 1, "{one} and {four} of 20");
}

#[test]
fn several_runs_find_a_change_of_all_that_they_are_many_enough_for() {
    let little = Noise { run: 0.01, ..NOISE };
    for pair in 0..5 {
        let seed = 5_000 + 16 * pair;
        let base = runs(seed..seed + 5, little, 1.0);
        let slower = runs(seed + 8..seed + 13, little, 1.1);
        let changes = changed(&rows(&base, &slower));
        for measure in [Measure::Median, Measure::Total] {
            let is = |(class, change): &(Class, Change)| {
                (*class, change.measure) == (Class::Shadow, measure)
            };
            assert!(changes.iter().any(is), "{measure:?}: {changes:?}");
        }
        assert!(
            changes.iter().all(|(class, _)| *class == Class::Shadow),
            "{changes:?}"
        );
    }
}

/// The machine is up to a third slower or faster from run to run, but for all classes alike.
#[test]
fn three_runs_find_a_change_of_one_class_on_a_machine_that_drifts() {
    let drifting = Noise { run: 0.15, ..NOISE };
    let (mut alarms, mut found) = (0, 0);
    for pair in 0..20 {
        let seed = 9_000 + 16 * pair;
        let base = runs(seed..seed + 3, drifting, 1.0);
        let equal = runs(seed + 4..seed + 7, drifting, 1.0);
        let slower = runs(seed + 8..seed + 11, drifting, 1.1);
        alarms += u32::from(!changed(&rows(&base, &equal)).is_empty());
        let is_ratio = |(class, change): &(Class, Change)| {
            (*class, change.measure, change.verdict)
                == (Class::Shadow, Measure::Relative, Verdict::Higher)
        };
        found += u32::from(changed(&rows(&base, &slower)).iter().any(is_ratio));
    }
    assert!(alarms <= 1, "{alarms} of 20 pairs of equal sides");
    assert!(found >= 19, "{found} of 20 changes");
}

/// The same where there is one class: its walk shows how fast the machine was.
#[test]
fn three_runs_find_a_change_of_the_only_class_on_a_machine_that_drifts() {
    let drifting = Noise { run: 0.15, ..NOISE };
    let runs = |seeds: std::ops::Range<u64>, factor: f64| {
        let mut runs = runs(seeds, drifting, factor);
        for run in &mut runs {
            run.cells.retain(|(_, class), _| *class == Class::Shadow);
            run.steps.retain(|(class, _), _| *class == Class::Shadow);
        }
        runs
    };
    let (mut alarms, mut found, mut by_median) = (0, 0, 0);
    for pair in 0..20 {
        let seed = 19_000 + 16 * pair;
        let base = runs(seed..seed + 3, 1.0);
        let [equal, slower] =
            [(4, 1.0), (8, 1.1)].map(|(from, factor)| runs(seed + from..seed + from + 3, factor));
        alarms += u32::from(!changed(&rows(&base, &equal)).is_empty());
        let changed = changed(&rows(&base, &slower));
        let has = |measure| {
            let mut measures = changed.iter().map(|(_, change)| change.measure);
            u32::from(measures.any(|of| of == measure))
        };
        found += has(Measure::Relative);
        by_median += has(Measure::Median);
    }
    assert!(alarms <= 1, "{alarms} of 20 pairs of equal sides");
    assert!(found >= 19, "{found} of 20 changes");
    assert!(
        by_median <= 1,
        "{by_median} of 20 changes by the median alone"
    );
}

#[test]
fn the_step_that_takes_longer_is_found() {
    let little = Noise { run: 0.01, ..NOISE };
    let (base, new) = (runs(1..6, little, 1.0), runs(6..11, little, 1.2));
    let sides = |base, new| Sides {
        base,
        new,
        times: true,
        least_percent: super::LEAST_PERCENT,
        incomplete: false,
    };
    let rows = sides(&base, &new).steps();
    assert_eq!(rows.len(), 2 * CLASSES.len());
    for row in rows {
        let is_slower = (row.class, row.step) == (Class::Shadow, FaultStep::Write);
        let expected = match is_slower {
            true => Verdict::Higher,
            false => Verdict::WithinNoise,
        };
        let verdicts = row
            .changes
            .iter()
            .map(|change| (change.measure, change.verdict));
        let measures = [Measure::Median, Measure::Total].map(|of| (of, expected));
        assert!(verdicts.eq(measures), "{row:?}");
    }
    let alone = sides(&base[..1], &new[..1]).steps();
    let mut changes = alone.iter().flat_map(|row| &row.changes);
    assert!(changes.all(|change| change.verdict == Verdict::OneRun));
}

#[test]
fn a_class_that_comes_goes_or_has_few_faults_is_said_so() {
    let verdict = |rows: &[ClassRow], class, measure| {
        let row = rows
            .iter()
            .find(|row| row.class == class && row.phase.is_none())
            .unwrap();
        let change = row.changes.iter().find(|change| change.measure == measure);
        change.map(|change| change.verdict)
    };
    let base = runs(1..2, NOISE, 1.0);
    let mut new = runs(2..3, NOISE, 1.0);
    let mut blocks = Blocks::with_times();
    (0..100).for_each(|fault| blocks.push(fault * 10_000, Some(700)));
    new[0]
        .cells
        .insert(("touch".to_owned(), Class::Fast), vec![blocks]);
    let mut few = Blocks::with_times();
    (0..3).for_each(|fault| few.push(fault * 10_000, Some(700)));
    new[0]
        .cells
        .insert(("touch".to_owned(), Class::Mmio), vec![few]);
    let there = rows(&base, &new);
    assert_eq!(
        verdict(&there, Class::Fast, Measure::Count),
        Some(Verdict::New)
    );
    assert_eq!(verdict(&there, Class::Fast, Measure::Median), None);
    assert_eq!(
        verdict(&there, Class::Mmio, Measure::Count),
        Some(Verdict::WithinNoise)
    );
    let back = rows(&new, &base);
    assert_eq!(
        verdict(&back, Class::Fast, Measure::Count),
        Some(Verdict::Gone)
    );
    let same = rows(&new, &new.clone());
    assert_eq!(
        verdict(&same, Class::Mmio, Measure::Median),
        Some(Verdict::TooFew)
    );
    assert!(changed(&same).is_empty());
}

/// Faults that come at once may be chance in one run, but not in each of several.
#[test]
fn a_burst_in_every_run_of_one_side_is_new() {
    let with = |seed, faults: u64| {
        let mut run = run(seed, NOISE, 1.0);
        let mut blocks = Blocks::with_times();
        // All but one at the same time.
        (0..faults).for_each(|fault| blocks.push(fault / 19 * 1_000_000_000, Some(700)));
        run.cells
            .insert(("touch".to_owned(), Class::Fast), vec![blocks]);
        run
    };
    let verdict = |base: &[Run], new: &[Run]| {
        let rows = rows(base, new);
        let row = rows
            .iter()
            .find(|row| row.class == Class::Fast && row.phase.is_none());
        row.unwrap().changes[0].verdict
    };
    let without = [1, 2, 3].map(|seed| with(seed, 0));
    let many = [4, 5, 6].map(|seed| with(seed, 20));
    assert_eq!(verdict(&without, &many), Verdict::New);
    assert_eq!(verdict(&many, &without), Verdict::Gone);
    assert_eq!(verdict(&without[..1], &many[..1]), Verdict::OneRun);
}

/// Which phase has the faults is decided once a run.
#[test]
fn a_class_of_one_phase_of_one_run_is_not_judged_and_of_several_all_must_have_it() {
    let with = |seed, faults| {
        let mut run = run(seed, NOISE, 1.0);
        let cells = [("map", 100 - faults), ("touch", faults)];
        for (phase, faults) in cells {
            let mut blocks = Blocks::with_times();
            (0..faults).for_each(|fault| blocks.push(fault * 10_000, Some(700)));
            run.cells
                .insert((phase.to_owned(), Class::Fast), vec![blocks]);
        }
        run
    };
    let verdict = |base: &[Run], new: &[Run]| {
        let rows = rows(base, new);
        let row = rows
            .iter()
            .find(|row| row.class == Class::Fast && row.phase.as_deref() == Some("touch"));
        row.unwrap().changes[0].verdict
    };
    let (none, all) = (with(1, 0), with(2, 100));
    let [alone, same] = [&none, &all].map(std::slice::from_ref);
    assert_eq!(verdict(alone, same), Verdict::OneRun);
    assert_eq!(verdict(same, alone), Verdict::OneRun);
    let nones = [none.clone(), with(3, 0), with(4, 0)];
    let alls = [all.clone(), with(5, 90), with(6, 80)];
    assert_eq!(verdict(&nones, &alls), Verdict::New);
    assert_eq!(verdict(&alls, &nones), Verdict::Gone);
    let some = [all, with(5, 90), none];
    assert_eq!(verdict(&nones, &some), Verdict::WithinNoise);
}

#[test]
fn the_only_class_of_one_run_is_not_judged() {
    let only = |seed| {
        let mut run = run(seed, NOISE, 1.0);
        run.cells.retain(|(_, class), _| *class == Class::Shadow);
        vec![run]
    };
    let rows = rows(&only(1), &only(2));
    let times = rows.iter().flat_map(|row| &row.changes);
    let times: Vec<_> = times
        .filter(|change| change.measure != Measure::Count)
        .collect();
    assert_eq!(times.len(), 6);
    assert!(
        times.iter().all(|change| change.verdict == Verdict::OneRun),
        "{times:?}"
    );
}

#[test]
fn on_an_emulated_machine_only_counts_are_compared() {
    let (base, new) = (runs(1..2, NOISE, 1.0), runs(2..3, NOISE, 2.0));
    let sides = Sides {
        base: &base,
        new: &new,
        times: false,
        least_percent: 0.0,
        incomplete: false,
    };
    let [classes, phases] = sides.classes();
    let rows = [classes, phases].concat();
    assert!(rows.iter().all(|row| row.changes.len() == 1));
    assert!(changed(&rows).is_empty());
}

#[test]
fn the_same_runs_give_the_same_result() {
    let (base, new) = (runs(1..4, DRIFTING, 1.0), runs(4..7, DRIFTING, 1.2));
    let changes = |rows: Vec<ClassRow>| -> Vec<Change> {
        rows.into_iter().flat_map(|row| row.changes).collect()
    };
    assert_eq!(changes(rows(&base, &new)), changes(rows(&base, &new)));
}

/// That threads were switched out is to know before reading, and no error of a trace.
#[test]
fn threads_that_were_switched_out_are_a_note_and_no_warning() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings/demand");
    let mut run = run(1, NOISE, 1.0);
    run.switched_out.fault(&trace::FaultRow {
        total_ns: 5_000_000,
        switches: Some(1),
        ..crate::replay::blank_fault(events::Seq(0))
    });
    let side = super::Side {
        traces: vec![trace::Trace::open(path.as_ref()).unwrap()],
        runs: vec![run],
    };
    assert_eq!(super::warnings(&side), []);
    let notes = super::notes(&side);
    assert_eq!(notes.len(), 1);
    assert!(
        notes[0].contains("were switched out meanwhile"),
        "{notes:?}"
    );
    let comparison = super::Comparison::of(&side, &side, super::LEAST_PERCENT);
    let document = super::document(&comparison, false);
    assert!(document.head.contains(&notes[0]));
    assert!(
        super::tables::lines(&comparison)
            .iter()
            .all(|line| line.good)
    );
}
