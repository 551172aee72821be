//! The table of results, and what it was measured on.

use std::fmt::Write as _;
use std::process::Command;

/// One line of the table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figure {
    /// What was done.
    pub(crate) name: String,
    /// What it took.
    pub(crate) result: String,
    /// What it is compared with, and what that took.
    pub(crate) compared_with: String,
    /// How many times as fast.
    pub(crate) ratio: String,
    /// The most memory held, in bytes; 0: not measured.
    pub(crate) peak_bytes: u64,
}

/// The most memory that anything may take.
const MOST_BYTES: u64 = 512 << 20;

/// The lines, printed as they come to the error stream and as a table at the end.
#[derive(Debug, Default)]
pub(crate) struct Table {
    figures: Vec<Figure>,
    /// What is not as it has to be.
    missed: Vec<String>,
}

impl Table {
    /// Adds a line.
    pub(crate) fn add(&mut self, figure: Figure) {
        let Figure { name, result, compared_with, ratio, peak_bytes } = &figure;
        eprintln!("{name}: {result} | {compared_with} {ratio} | {}", mib(*peak_bytes));
        let told = format!("{name}: {} of memory", mib(*peak_bytes));
        self.demand(*peak_bytes < MOST_BYTES, || format!("{told}, and {} is the most", mib(MOST_BYTES)));
        self.figures.push(figure);
    }

    /// Notes what is missed unless something holds. Times are no such thing, for machines differ; how they compare on one machine is.
    pub(crate) fn demand(&mut self, holds: bool, missed: impl FnOnce() -> String) {
        if !holds {
            self.missed.push(missed());
        }
    }

    /// What is not as it has to be.
    pub(crate) fn missed(&self) -> &[String] {
        &self.missed
    }

    /// The table in Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text =
            "| what | figure | compared with | ratio | peak memory |\n|---|---|---|---|---|\n".to_owned();
        for Figure { name, result, compared_with, ratio, peak_bytes } in &self.figures {
            let memory = mib(*peak_bytes);
            let _ = writeln!(text, "| {name} | {result} | {compared_with} | {ratio} | {memory} |");
        }
        text
    }
}

/// Memory as people read it.
pub(crate) fn mib(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { format!("{} MiB", bytes.div_ceil(1 << 20)) }
}

/// Seconds with as many digits as mean something.
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.2} s") } else { format!("{seconds:.1} s") }
}

/// How many in a second.
#[allow(clippy::cast_precision_loss)] // Far from where it is lost.
pub(crate) fn rate(records: u64, seconds: f64) -> String {
    format!("{:.0} records/s", records as f64 / seconds)
}

/// The date, the machine and the server.
pub(crate) fn machine(postgres: &str) -> String {
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().ok();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let value = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory: u64 =
        value("/proc/meminfo", "MemTotal").trim_end_matches("kB").trim().parse().unwrap_or_default();
    let model = value("/proc/cpuinfo", "model name");
    let model = if model.is_empty() { said("uname", &["-m"]) } else { model };
    let date = said("date", &["-u", "+%Y-%m-%d"]);
    format!("{date}, {cores} cores, {model}, {} GiB of memory, Postgres {postgres}", memory.div_ceil(1 << 20))
}
