//! The commands and their arguments.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::plan::GuardName;
use crate::spec::duration_ms;

/// Keeps the records of several stores in agreement: says what is out of true, writes the least that puts it right, and goes on
/// doing so.
///
/// Manifests in a folder (`manifests` by default) say which fields of which record live in which store. Options may be spelt with
/// one dash or two.
#[derive(Debug, Parser)]
#[command(name = "trueup", version, args_override_self = true, infer_long_args = false)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub shared: Shared,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of all commands.
#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_excessive_bools)] // Independent switches.
pub(crate) struct Shared {
    /// Work in this folder, as if the command had been given there.
    #[arg(long, global = true, value_name = "DIR")]
    pub chdir: Option<PathBuf>,
    /// The folder of manifests; its subfolders are not read.
    #[arg(short = 'f', long, global = true, value_name = "DIR", default_value = "manifests")]
    pub manifests: PathBuf,
    /// Write JSON for other programs.
    #[arg(long, global = true)]
    pub json: bool,
    /// No colours. They are also off without a terminal and with `NO_COLOR`.
    #[arg(long, global = true)]
    pub no_color: bool,
    /// List everything: metadata-only actions, all records of long lists, the books.
    #[arg(long, global = true)]
    pub verbose: bool,
    /// Whether to ask for approval; where it is needed and may not be asked for, the command fails.
    #[arg(
        long, global = true, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set,
        env = "TRUEUP_INPUT", hide_env_values = true,
    )]
    pub input: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check the manifests; contacts no store.
    Validate(ValidateArgs),
    /// Draft entities and mappings for tables that stand in the stores and that no mapping names. The manifests need name the stores only.
    Draft(DraftArgs),
    /// Show what would be written, and write nothing.
    Plan(PlanArgs),
    /// Write what a plan says: a saved one, or one made, shown and approved now.
    Apply(ApplyArgs),
    /// Show a saved plan; needs no manifests.
    Show(ShowArgs),
    /// Add the tables and columns that stores lack; never drops or changes any.
    Migrate(MigrateArgs),
    /// Show where every record stands.
    Status,
    /// Show a record as every store has it, what it should be, and why.
    Explain(ExplainArgs),
    /// List, show and settle conflicts that wait for a person.
    Conflicts(ConflictsArgs),
    /// List and show records that were deleted, and put them back.
    Deleted(DeletedArgs),
    /// Write a prompt for a language model about a record of the canonical store.
    Prompt(PromptArgs),
    /// List rows that carry no key and wait for a person, and say whose they are.
    Identity(IdentityArgs),
    /// Make a pass every interval and whenever something is hinted at, and serve metrics, health, webhooks and an API.
    Run(RunArgs),
    /// Write nothing to a store, an entity or a record for a while. Drift there is told all the same.
    Pause(PauseArgs),
    /// End a pause.
    Resume(ResumeArgs),
    /// Approve what guards refuse, for this very plan: `run` carries it out in its next pass.
    Approve(ApproveArgs),
    /// List everything that failed or is held, rejected or unknown, since when, and what to do about it.
    Errors,
    /// Write the JSON Schemas of manifests, for editors; or the SQL that prepares their stores.
    Schema(SchemaArgs),
    /// Write a folder with an example of three stores that disagree, and bring them to agree.
    Demo(DemoArgs),
    /// Serve a stand-in for a system that is hard to come by, as strict as the real one.
    Sandbox(SandboxArgs),
    /// Write what lets a shell complete commands and options: `source <(trueup completion bash)`.
    Completion(CompletionArgs),
    /// Show the version.
    Version,
}

/// `validate`
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Print the manifests with every short form and default written out.
    #[arg(long)]
    pub expand: bool,
}

/// `draft`
#[derive(Debug, Args)]
pub(crate) struct DraftArgs {
    /// Only these tables, and those of other stores that seem to hold the same records; `contacts=people` where they do not seem so.
    #[arg(value_name = "TABLE[=TABLE]")]
    pub tables: Vec<String>,
}

/// How a pass is made.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PassArgs {
    /// Only this entity or record: `contacts`, `contacts["C000127"]`, `people_businesses["a", "b"]`. Repeatable.
    #[arg(long, value_name = "ADDRESS")]
    pub target: Vec<String>,
    /// Allow, for this plan, what a guard would refuse: `deletes`, `updates`, `emptied`, `incomplete`, `regressed`. Repeatable.
    #[arg(long, value_name = "GUARD", value_parser = guard)]
    pub allow: Vec<GuardName>,
    /// How thoroughly stores are looked at.
    #[arg(long, value_enum, default_value_t = Refresh::Normal, value_name = "HOW")]
    pub refresh: Refresh,
    #[command(flatten)]
    pub work: WorkArgs,
}

/// How work is shared out.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct WorkArgs {
    /// How long to wait for another controller to finish: `3s`, `500ms`, `2m`.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub lock_timeout: Duration,
    /// How many stores are written at once; all of them unless told.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub parallelism: Option<u16>,
}

/// How thoroughly stores are looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Refresh {
    /// What changed since the last pass, where the stores can tell; everything elsewhere.
    #[default]
    Normal,
    /// Everything is read.
    Full,
}

/// `plan`
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub pass: PassArgs,
    /// Save the plan to this file, for `trueup apply FILE`. It holds sensitive values and is made readable by you alone.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Exit with 2 when there is something to write, 0 when there is not, 1 on errors.
    #[arg(long)]
    pub detailed_exitcode: bool,
}

/// `apply`
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// A plan that `trueup plan --out` saved: applied without asking.
    #[arg(value_name = "PLANFILE", conflicts_with_all = ["target", "allow"])]
    pub plan: Option<PathBuf>,
    #[command(flatten)]
    pub pass: PassArgs,
    #[command(flatten)]
    pub approval: Approval,
}

/// Whether to ask.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Approval {
    /// Do not ask for approval.
    #[arg(long)]
    pub auto_approve: bool,
}

/// `show`
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The plan file.
    #[arg(value_name = "PLANFILE")]
    pub plan: PathBuf,
}

/// `migrate`
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Print the statements and do nothing.
    #[arg(long)]
    pub print: bool,
    #[command(flatten)]
    pub approval: Approval,
}

/// `conflicts`
#[derive(Debug, Args)]
pub(crate) struct ConflictsArgs {
    #[command(subcommand)]
    pub command: Option<ConflictsCommand>,
}

/// What to do about conflicts.
#[derive(Debug, Subcommand)]
pub(crate) enum ConflictsCommand {
    /// List those that wait for a person.
    List {
        /// Those that ended, too.
        #[arg(long)]
        all: bool,
    },
    /// Show all sides of one.
    Show {
        /// Its id, or as much of it as tells it from the others.
        id: String,
    },
    /// Decide one, and bring its record to agree everywhere. Of one that ended, a side stands after all: that is a new edit.
    Resolve(ResolveArgs),
}

/// `conflicts resolve`
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("choice").required(true).args(["take", "set"])))]
pub(crate) struct ResolveArgs {
    /// Its id, or as much of it as tells it from the others.
    pub id: String,
    /// The values of this store stand.
    #[arg(long, value_name = "STORE")]
    pub take: Option<String>,
    /// This value stands: `title=Doctor`; `title=null` clears the field. Repeatable.
    #[arg(long, value_name = "FIELD=VALUE")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub approval: Approval,
    #[command(flatten)]
    pub work: WorkArgs,
}

/// `explain`
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The record: `contacts["C000127"]`.
    #[arg(value_name = "RECORD")]
    pub record: String,
}

/// `deleted`
#[derive(Debug, Args)]
pub(crate) struct DeletedArgs {
    #[command(subcommand)]
    pub command: Option<DeletedCommand>,
}

/// What to do about deleted records.
#[derive(Debug, Subcommand)]
pub(crate) enum DeletedCommand {
    /// List those that are still away, the latest first.
    List,
    /// Show what is kept of one.
    Show {
        /// The record: `contacts["C000127"]`.
        #[arg(value_name = "RECORD")]
        record: String,
    },
    /// Put some back, with what went with them, and bring them to agree everywhere.
    Restore(RestoreArgs),
}

/// `deleted restore`
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The records: `contacts["C000127"]`.
    #[arg(value_name = "RECORD", required = true)]
    pub records: Vec<String>,
    /// Leave away what went with them (by a reference that cascades).
    #[arg(long)]
    pub alone: bool,
    #[command(flatten)]
    pub approval: Approval,
    #[command(flatten)]
    pub work: WorkArgs,
}

/// `pause`
#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    /// What: a store, an entity, a record (`contacts["C000127"]`), or one of a store's (`app.contacts`).
    #[arg(value_name = "ADDRESS")]
    pub address: String,
    /// Why, for whoever finds it later.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// For how long: `30m`, `8h`, `2d`; until it is resumed unless told.
    #[arg(long = "for", value_name = "TIME", value_parser = positive_duration)]
    pub duration: Option<Duration>,
}

/// `resume`
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// What was paused.
    #[arg(value_name = "ADDRESS")]
    pub address: String,
}

/// `approve`
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// The plan's code, as `errors` and `status` show it, or the first six characters of it or more.
    #[arg(value_name = "CODE")]
    pub code: String,
}

/// `identity`
#[derive(Debug, Args)]
pub(crate) struct IdentityArgs {
    #[command(subcommand)]
    pub command: Option<IdentityCommand>,
    /// How long to wait for another controller to finish: `3s`, `500ms`, `2m`.
    #[arg(long, global = true, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub lock_timeout: Duration,
}

/// What to do about rows that carry no key.
#[derive(Debug, Subcommand)]
pub(crate) enum IdentityCommand {
    /// List those that wait, from a fresh look that writes nothing.
    List,
    /// Say which record a row is of; the next pass puts the key into it.
    Link {
        /// The entity.
        entity: String,
        /// The store.
        store: String,
        /// The store's id of the row, as `list` shows it.
        id: String,
        /// The record's key.
        key: String,
    },
    /// Say that a row is nobody's who is known, whether it waits or was taken for somebody's; the next pass makes a record of it.
    Split {
        /// The entity.
        entity: String,
        /// The store.
        store: String,
        /// The store's id of the row, as `list` shows it.
        id: String,
    },
}

/// `run`
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Make one pass and stop; serves nothing unless --listen is given.
    #[arg(long)]
    pub once: bool,
    /// Look and tell, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// From the end of a pass to the next one, instead of what the manifests say: `30s`, `5m`.
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    pub interval: Option<Duration>,
    /// Where to serve, instead of what the manifests say: `127.0.0.1:9464`.
    #[arg(long, value_name = "ADDRESS", value_parser = listen)]
    pub listen: Option<SocketAddr>,
    #[command(flatten)]
    pub work: WorkArgs,
}

/// `prompt`
#[derive(Debug, Args)]
pub(crate) struct PromptArgs {
    /// The record: `contacts["C000127"]`.
    #[arg(value_name = "RECORD")]
    pub record: String,
    /// A file with the prompt that the record's context is added to.
    #[arg(long, value_name = "FILE")]
    pub base: Option<PathBuf>,
    /// A template to use instead of the one that is built in.
    #[arg(long, value_name = "FILE")]
    pub template: Option<PathBuf>,
    /// The prompt itself, or JSON with it and its sizes.
    #[arg(long, value_enum, default_value_t = PromptFormat::Markdown, value_name = "FORMAT")]
    pub format: PromptFormat,
    /// At most so many bytes: the least important lines are left out, and named.
    #[arg(long, value_name = "BYTES", conflicts_with = "tokens")]
    pub budget: Option<usize>,
    /// At most so many tokens, estimated as a quarter of the ASCII characters and every other character.
    #[arg(long, value_name = "N")]
    pub tokens: Option<usize>,
}

/// How a prompt is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PromptFormat {
    /// The prompt.
    #[default]
    Markdown,
    /// An object with the prompt in it.
    Json,
}

/// `schema`
#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// The folder to write to.
    #[arg(long, value_name = "DIR", default_value = "schemas")]
    pub dir: PathBuf,
    /// Write, instead of JSON Schemas, the SQL that prepares the manifests' stores: `sql/STORE.sql` in the folder.
    #[arg(long)]
    pub sql: bool,
    /// Write nothing; fail when a file is not as it would be written.
    #[arg(long)]
    pub check: bool,
}

/// `demo`
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The folder to write to; what an earlier demo left there is replaced.
    #[arg(value_name = "DIR", default_value = "trueup-demo")]
    pub dir: PathBuf,
    /// Then go on: keep the stores in agreement and serve metrics, while a small script goes on editing them.
    #[arg(long)]
    pub serve: bool,
    /// Where to serve, instead of `127.0.0.1:9464`.
    #[arg(long, value_name = "ADDRESS", requires = "serve", value_parser = listen)]
    pub listen: Option<SocketAddr>,
    /// A BigQuery emulator at this address (REST) holds the canonical store, in a new dataset of the project `demo`.
    #[arg(long, value_name = "URL")]
    pub bigquery: Option<String>,
    /// A CRM as a further store: a stand-in for Twenty, which this command serves as long as it runs.
    #[arg(long)]
    pub twenty: bool,
    #[command(flatten)]
    pub approval: Approval,
}

/// `completion`
#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// `sandbox`
#[derive(Debug, Args)]
pub(crate) struct SandboxArgs {
    #[command(subcommand)]
    pub command: SandboxCommand,
}

/// What to stand in for.
#[derive(Debug, Subcommand)]
pub(crate) enum SandboxCommand {
    /// Twenty, the CRM, as version 2.21 was measured to behave: REST, GraphQL, metadata, webhooks and limits.
    ///
    /// Its address is printed once it serves, on loopback alone. It begins with people and companies and no records. What nobody
    /// has measured on a real server it refuses, saying so. It stops when it is interrupted.
    Twenty(TwentyArgs),
}

/// `sandbox twenty`
#[derive(Debug, Args)]
pub(crate) struct TwentyArgs {
    /// The port on 127.0.0.1; 0 takes a free one.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub port: u16,
    /// The API key that clients have to send.
    #[arg(long, value_name = "KEY", env = "TRUEUP_SANDBOX_KEY", hide_env_values = true)]
    pub key: String,
    /// Keep everything in this SQLite file; without it, it is gone at the end.
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// How many calls a minute are answered; more are refused.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub calls_per_minute: u32,
    /// How many calls a second are answered.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub calls_per_second: u32,
}

fn guard(name: &str) -> Result<GuardName, String> {
    GuardName::parse(name).ok_or_else(|| {
        let names: Vec<&str> = GuardName::ALL.iter().map(|guard| guard.as_str()).collect();
        format!("no guard has this name; they are {}", names.join(", "))
    })
}

/// A time as manifests write it; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = if digits { "s" } else { "" };
    duration_ms(&format!("{text}{seconds}")).map(Duration::from_millis)
}

/// Where to serve.
fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "write the address and the port of this machine to serve on: `127.0.0.1:9464`".to_owned()
    })
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|time| {
        if time.is_zero() { Err("it must be longer than nothing".to_owned()) } else { Ok(time) }
    })
}
