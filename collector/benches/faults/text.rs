//! The figures as a table.

use std::fmt::{self, Write as _};

use crate::{
    figures::{Compared, Disk, Figures, Loss, Target, Turns},
    moments::Moments,
    programs::{Cost, Programs},
    recorder::Recorder,
    replay::Replay,
    spread::Spread,
    stops::Stops,
};

/// Everything.
pub fn table(figures: &Figures) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(figures, &mut text);
    text
}

fn write(figures: &Figures, out: &mut String) -> fmt::Result {
    let machine = &figures.machine;
    writeln!(
        out,
        "linear, {} pages, sequential: {} rounds in turns, niceness {}, load before {:.1}",
        figures.pages, figures.rounds, machine.niceness, machine.load
    )?;
    writeln!(
        out,
        "{}, {} CPUs, kernel {}, {}, {} UTC\n",
        machine.cpu, machine.cpus, machine.kernel, machine.hypervisor, machine.date
    )?;

    writeln!(
        out,
        "{:<22}{:>8}{:>16}{:>16}{:>9}{:>16}{:>7}",
        "ns a fault", "median", "quartiles", "min .. max", "added", "quartiles", "ratio"
    )?;
    turns(&figures.fault_ns, out)?;
    writeln!(
        out,
        "\nns a page that the guest's kernel maps, emulated and without a fault"
    )?;
    turns(&figures.emulated_page_ns, out)?;
    writeln!(
        out,
        "tracefs: {} events a run, {} lost in all runs\n",
        figures.tracefs_events, figures.tracefs_lost
    )?;

    writeln!(out, "bytes on disk a fault")?;
    disk("sequential", &figures.sequential, out)?;
    disk("random", &figures.random, out)?;
    writeln!(out, "records lost")?;
    loss("in the rounds", &figures.lost, out)?;
    loss("every core busy", &figures.lost_busy, out)?;
    let Recorder {
        ns_a_fault,
        start_ns,
    } = figures.recorder;
    writeln!(out, "CPU time outside the kernel")?;
    writeln!(out, "  {:<20}{ns_a_fault:>8.0}   ns a fault", "recorder")?;
    writeln!(out, "  {:<20}{:>8.0}   ms", "start and end", start_ns / 1e6)?;

    writeln!(out)?;
    programs(&figures.programs, out)?;
    writeln!(out)?;
    replay(&figures.replay, out)?;
    if let Some(Moments { records, seconds }) = &figures.moments {
        let [min, max] = seconds.range;
        writeln!(
            out,
            "analyzer table --at, {records} records: {:.3} s ({min:.3} .. {max:.3})",
            seconds.median
        )?;
    }
    stops(&figures.stops, out)?;
    writeln!(out)?;
    targets(&figures.targets, out)
}

fn stops(stops: &Stops, out: &mut String) -> fmt::Result {
    let [low, high] = stops.ns_a_page.quartiles;
    writeln!(
        out,
        "{} keyframes of 20,000 shadow pages: {:.0} ns a page stopped ({low:.0} .. {high:.0})",
        stops.keyframes, stops.ns_a_page.median
    )?;
    let [min, max] = stops.run_s.range;
    writeln!(
        out,
        "collector run, 64 pages: {:.3} s from start to end ({min:.3} .. {max:.3})",
        stops.run_s.median
    )
}

fn turns(turns: &Turns, out: &mut String) -> fmt::Result {
    writeln!(out, "  {:<20}{}", "untraced", spread(&turns.untraced))?;
    compared("traced", &turns.traced, out)?;
    compared("tracefs, four events", &turns.tracefs, out)
}

fn compared(name: &str, way: &Compared, out: &mut String) -> fmt::Result {
    let [low, high] = way.added.quartiles;
    let quartiles = format!("{low:+.0} .. {high:+.0}");
    let (added, ratio) = (way.added.median, way.ratio.median);
    writeln!(
        out,
        "  {name:<20}{}{added:>+9.0}{quartiles:>16}{ratio:>7.3}",
        spread(&way.spread)
    )
}

fn spread(spread: &Spread) -> String {
    let [low, high] = spread.quartiles;
    let [min, max] = spread.range;
    format!(
        "{:>8.0}{:>16}{:>16}",
        spread.median,
        format!("{low:.0} .. {high:.0}"),
        format!("{min:.0} .. {max:.0}")
    )
}

fn disk(name: &str, disk: &Disk, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "  {name:<20}{:>8.1}   {} bytes, {} faults",
        disk.bytes_a_fault, disk.bytes, disk.faults
    )
}

fn loss(name: &str, loss: &Loss, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "  {name:<20}{:>8}   of {}",
        loss.lost,
        loss.records + loss.lost
    )
}

fn programs(programs: &Programs, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "the kernel's own measure, one more run       a fault                    an emulated page"
    )?;
    writeln!(
        out,
        "  {:<26}{:>8}{:>10}{:>8}{:>12}{:>10}{:>8}",
        "program", "runs", "ns a run", "ns", "runs", "ns a run", "ns"
    )?;
    for program in &programs.programs {
        writeln!(
            out,
            "  {:<26}{}    {}",
            program.name,
            cost(program.fault),
            cost(program.emulated_page)
        )?;
    }
    writeln!(
        out,
        "  {:<26}{:>26.0}{:>30.0}",
        "sum", programs.ns_a_fault, programs.ns_an_emulated_page
    )
}

fn cost(cost: Cost) -> String {
    let ns_a_run = cost
        .ns_a_run()
        .map_or("-".to_owned(), |ns| format!("{ns:.0}"));
    format!("{:>8.2}{ns_a_run:>10}{:>8.0}", cost.runs, cost.ns)
}

fn replay(replay: &Replay, out: &mut String) -> fmt::Result {
    match replay {
        Replay::Measured {
            records,
            seconds,
            records_a_second,
            exact,
        } => {
            let [min, max] = seconds.range;
            let verdict = if *exact { "exact" } else { "not exact" };
            writeln!(
                out,
                "analyzer verify, one thread: {records} records in {:.3} s ({min:.3} .. {max:.3}), \
                 {:.2} million a second; {verdict}",
                seconds.median,
                records_a_second / 1e6,
            )
        }
        Replay::Missing(why) => writeln!(out, "analyzer verify: not measured, {why}"),
    }
}

fn targets(targets: &[Target], out: &mut String) -> fmt::Result {
    for target in targets {
        let verdict = match target.met {
            Some(true) => "met",
            Some(false) => "not met",
            None => "unknown",
        };
        writeln!(
            out,
            "{:<42}{:<22}{:<16}{verdict}",
            target.what, target.reach, target.measured
        )?;
    }
    Ok(())
}
