//! Runs a program and measures it: wall time, processor time, and the most memory that it and its children held.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;

/// How often a process is looked at: the error of the wall time, and how late a peak at the end may be missed.
const GLANCE: Duration = Duration::from_millis(5);

/// How often its children are looked for, which takes a look at every process there is.
const SEARCH: Duration = Duration::from_millis(50);

/// What a program took, and what it said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    /// From its start to its end.
    pub(crate) wall_seconds: f64,
    /// Its processor time, in user and system mode together; without its children's.
    pub(crate) cpu_seconds: f64,
    /// The sum of the largest resident sets (`VmHWM`) of the process and its children.
    pub(crate) peak_bytes: u64,
    /// What it wrote to its standard output.
    pub(crate) output: String,
    /// What it wrote to its standard error.
    pub(crate) errors: String,
}

/// Runs a program to its end, which has to be a good one.
pub(crate) fn measure(command: &mut Command, folder: &Path) -> Outcome<Measured> {
    let files = [folder.join("output"), folder.join("errors")];
    let name = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(File::create(&files[0])?).stderr(File::create(&files[1])?);
    let began = Instant::now();
    let mut child = command.spawn()?;
    let pid = child.id();
    let mut peaks = BTreeMap::new();
    let mut searched = began;
    let mut family = vec![pid];
    // One that ended and was not waited for yet still tells its times.
    let cpu_seconds = loop {
        for pid in &family {
            let peak = peak_bytes(*pid).unwrap_or(0);
            let known = peaks.entry(*pid).or_insert(0);
            *known = peak.max(*known);
        }
        let now = look_at(pid).ok_or("a process is gone before it was waited for")?;
        if now.ended {
            break now.cpu_seconds;
        }
        if searched.elapsed() > SEARCH {
            family = descendants(pid);
            searched = Instant::now();
        }
        std::thread::sleep(GLANCE);
    };
    let wall_seconds = began.elapsed().as_secs_f64();
    let status = child.wait()?;
    let [output, errors] = files.map(|file| std::fs::read_to_string(file).unwrap_or_default());
    if !status.success() {
        let end: String = output.lines().rev().take(15).collect::<Vec<_>>().join("\n");
        return Err(format!("{name} ended with {status}: {errors}\n(last lines first)\n{end}").into());
    }
    Ok(Measured { wall_seconds, cpu_seconds, peak_bytes: peaks.values().sum(), output, errors })
}

/// A look at a process.
struct Look {
    ended: bool,
    parent: u32,
    cpu_seconds: f64,
}

fn look_at(pid: u32) -> Option<Look> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything.
    let words: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = words.get(11)?.parse::<u32>().ok()? + words.get(12)?.parse::<u32>().ok()?;
    Some(Look {
        ended: matches!(*words.first()?, "Z" | "X"),
        parent: words.get(1)?.parse().ok()?,
        // Linux tells other programs hundredths of a second, whatever it counts itself.
        cpu_seconds: f64::from(ticks) / 100.0,
    })
}

fn peak_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn descendants(root: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = pids.filter_map(|pid| Some((pid, look_at(pid)?.parent))).collect();
    let mut family = vec![root];
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    family
}
