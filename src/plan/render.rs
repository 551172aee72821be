//! The plan as people read it, in Terraform's manner. Pure: the same plan gives the same page.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anstyle::{AnsiColor, Effects, Style};

use crate::diff::{Action, ActionKind, Change, Standing};
use crate::model::{Cell, EntityName, FieldName, RecordId, StoreName};
use crate::resolve::{ConflictStatus, Origin};

use super::cost::{Rates, cost};
use super::render_left::{left, scope};
use super::render_value::{self as value, Line, clean};
use super::render_words::{because, heading, notice_line, origin_words, settled_line};
use super::{Notice, NoticeKind, Plan, Shape};

/// Actions shown in full for an entity, and records named under a heading, unless everything is asked for.
const SHOWN: usize = 50;

/// How a page is laid out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RenderOptions {
    /// Whether to use terminal colours.
    pub color: bool,
    /// Whether to list everything, metadata-only actions included.
    pub verbose: bool,
    /// What stores allow, as far as it is known: for the cost.
    pub rates: Rates,
}

/// What to say under a plan that was not saved.
pub const UNSAVED_NOTE: &str = "Note: you didn't use --out to save this plan, so it can't be guaranteed that exactly these \
                                actions are taken if you run `trueup apply` now.\n";

/// The whole plan as text.
pub fn render(plan: &Plan, options: &RenderOptions) -> String {
    let mut page = Page { text: String::new(), paint: Paint(options.color), options };
    page.legend(plan);
    page.actions(plan);
    page.metadata(plan);
    page.meetings(plan);
    page.conflicts(plan);
    page.notices(plan);
    page.guards(plan);
    page.left(plan);
    page.summary(plan);
    page.text
}

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(pub bool);

impl Paint {
    fn with(self, style: Style, text: &str) -> String {
        if self.0 { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
    pub(super) fn bold(self, text: &str) -> String {
        self.with(Style::new().effects(Effects::BOLD), text)
    }
    pub(super) fn dim(self, text: &str) -> String {
        self.with(Style::new().effects(Effects::DIMMED), text)
    }
    pub(super) fn green(self, text: &str) -> String {
        self.with(AnsiColor::Green.on_default(), text)
    }
    pub(super) fn yellow(self, text: &str) -> String {
        self.with(AnsiColor::Yellow.on_default(), text)
    }
    pub(super) fn red(self, text: &str) -> String {
        self.with(AnsiColor::Red.on_default(), text)
    }

    /// The symbol of what an action does.
    fn symbol(self, kind: ActionKind) -> String {
        match kind {
            ActionKind::Create => self.green("+"),
            ActionKind::Update => self.yellow("~"),
            ActionKind::Delete => self.red("-"),
            ActionKind::Metadata | ActionKind::Bookkeeping => self.dim("·"),
        }
    }
}

/// The address of a record in a store, `supabase.contacts["C000127"]`.
pub fn address(store: &StoreName, record: &RecordId) -> String {
    clean(&format!("{store}.{record}"))
}

/// `1 record`, `2 records`.
pub(super) fn counted(count: impl Into<u64>, noun: &str) -> String {
    let count = count.into();
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// A number of bytes, in the largest unit that leaves it one or more.
fn size(bytes: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = units.into_iter().find(|(_, unit)| bytes >= *unit);
    unit.map_or(format!("{bytes} bytes"), |(name, unit)| {
        let tenths = bytes.saturating_mul(10) / unit;
        if tenths.is_multiple_of(10) {
            format!("{} {name}", tenths / 10)
        } else {
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
    })
}

/// For every entity and store: how many rows without a key are linked, and by what, become new records, or wait.
pub fn meeting_lines(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for (entity, stores) in &plan.meetings {
        for (store, meeting) in stores {
            let mut parts: Vec<String> =
                meeting.linked.iter().map(|(by, count)| format!("{count} linked by {by}")).collect();
            if meeting.made > 0 {
                parts.push(format!("{} new", meeting.made));
            }
            if meeting.held > 0 {
                parts.push(format!(
                    "{} held, {} of them like another row there",
                    meeting.held, meeting.duplicates
                ));
            }
            lines.push(clean(&format!("{entity} in {store}: {}", parts.join("; "))));
        }
    }
    lines
}

/// A page in the making.
struct Page<'a> {
    text: String,
    paint: Paint,
    options: &'a RenderOptions,
}

impl Page<'_> {
    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn limit(&self) -> usize {
        if self.options.verbose { usize::MAX } else { SHOWN }
    }

    /// The symbols that occur, and what they mean.
    fn legend(&mut self, plan: &Plan) {
        let totals = plan.totals();
        if totals.sum() == 0 {
            return;
        }
        self.line(
            "trueup used the manifests and a look at every store to make this plan. Actions are shown as:",
        );
        let symbols = [
            (totals.create, ActionKind::Create, "create"),
            (totals.update, ActionKind::Update, "update in place"),
            (totals.delete, ActionKind::Delete, "delete"),
            (totals.metadata, ActionKind::Metadata, "metadata only (the content is right already)"),
        ];
        for (_, kind, meaning) in symbols.into_iter().filter(|(count, ..)| *count > 0) {
            let symbol = self.paint.symbol(kind);
            self.line(&format!("  {symbol} {meaning}"));
        }
        self.line("\ntrueup will perform the following actions:\n");
    }

    /// One block an action; of many in one entity the first in full and the others by shape.
    fn actions(&mut self, plan: &Plan) {
        for entity in &plan.entities {
            let mut more =
                plan.records.sums().get(entity).map(|sums| sums.shapes.clone()).unwrap_or_default();
            more.retain(|shape, _| !is_metadata(shape.kind) || self.options.verbose);
            let mut left: u64 = more.values().sum();
            let mut shown = 0;
            for record in plan.records.at(plan.records.of_entity(entity)) {
                if left == 0 || shown == self.limit() {
                    break;
                }
                for action in &record.actions {
                    if shown == self.limit() || is_metadata(action.kind) && !self.options.verbose {
                        continue;
                    }
                    self.action(&record.record, action);
                    shown += 1;
                    left = left.saturating_sub(1);
                    if let Some(count) = more.get_mut(&Shape::of(action)) {
                        *count = count.saturating_sub(1);
                    }
                }
            }
            more.retain(|_, count| *count > 0);
            if !more.is_empty() {
                self.more(entity, more);
            }
        }
    }

    fn more(&mut self, entity: &EntityName, shapes: BTreeMap<Shape, u64>) {
        let sum: u64 = shapes.values().sum();
        self.line(&format!(
            "  # {} of {entity} not shown one by one (--verbose shows them):",
            counted(sum, "more action")
        ));
        for (shape, count) in shapes {
            let symbol = self.paint.symbol(shape.kind);
            let fields: Vec<&str> = shape.fields.iter().map(FieldName::as_str).collect();
            let fields = if fields.is_empty() { String::new() } else { format!(": {}", fields.join(", ")) };
            self.line(&format!("  {symbol} {}.{entity} {}{fields}", shape.store, counted(count, "record")));
        }
        self.line("");
    }

    fn action(&mut self, record: &RecordId, action: &Action) {
        let address = address(&action.store, record);
        let done = match action.kind {
            ActionKind::Create => "will be created",
            ActionKind::Update => "will be updated in place",
            ActionKind::Delete => "will be deleted",
            ActionKind::Metadata => "will get its metadata brought up",
            ActionKind::Bookkeeping => "will get its sync status and errors brought up",
        };
        let heading = self.paint.bold(&format!("  # {address} {done}"));
        self.line(&format!("{heading} {}", because(action)));
        let symbol = self.paint.symbol(action.kind);
        if is_metadata(action.kind) {
            self.line(&format!("  {symbol} {address}\n"));
            return;
        }
        self.line(&format!("  {symbol} {address} {{"));
        let shown: Vec<&Change> =
            action.changes.iter().filter(|change| is_shown(action.kind, change)).collect();
        let width = shown.iter().map(|change| change.field.as_str().len()).max().unwrap_or(0);
        for change in shown {
            self.change(action.kind, change, width);
        }
        let hidden = hidden_fields(action);
        if hidden > 0 {
            let note = self.paint.dim(&format!("# ({} hidden)", counted(hidden, "unchanged field")));
            self.line(&format!("        {note}"));
        }
        self.line("    }\n");
    }

    fn change(&mut self, kind: ActionKind, change: &Change, width: usize) {
        let symbol = self.paint.symbol(kind);
        let name = format!("{:width$}", change.field.as_str());
        let note = if kind == ActionKind::Update { self.note(&change.origin) } else { String::new() };
        if change.sensitive {
            let end = if kind == ActionKind::Delete { " -> null" } else { "" };
            self.line(&format!("      {symbol} {name} = (sensitive value){end}{note}"));
            return;
        }
        let before_short = change.before.value().is_none_or(value::is_short);
        let short = match kind {
            ActionKind::Create => value::is_short(&change.after),
            ActionKind::Delete => before_short,
            _ => before_short && value::is_short(&change.after),
        };
        if short {
            let shown = match kind {
                ActionKind::Create => value::inline(&change.after),
                _ => format!("{} -> {}", value::inline_cell(&change.before), value::inline(&change.after)),
            };
            self.line(&format!("      {symbol} {name} = {shown}{note}"));
            return;
        }
        let (lines, end) = long_change(kind, change, self.options.verbose);
        self.line(&format!("      {symbol} {name} ={end}{note}"));
        for line in lines {
            self.gutter(line);
        }
    }

    /// A line of a long value, behind a gutter that no value can write itself.
    fn gutter(&mut self, line: Line) {
        let line = match line {
            Line::Same(text) => format!("  {text}"),
            Line::Old(text) => self.paint.red(&format!("- {text}")),
            Line::New(text) => self.paint.green(&format!("+ {text}")),
            Line::Gap(count) => {
                self.paint.dim(&format!("  # ({})", counted(count as u64, "line") + " not shown"))
            }
        };
        self.line(format!("          | {line}").trim_end());
    }

    fn note(&self, origin: &Origin) -> String {
        format!("  {}", self.paint.dim(&format!("# {}", origin_words(origin))))
    }

    /// How many rows of each store get metadata only.
    fn metadata(&mut self, plan: &Plan) {
        if self.options.verbose {
            return;
        }
        let mut any = false;
        let shapes =
            plan.records.sums().iter().flat_map(|(entity, sums)| {
                sums.shapes.iter().map(move |(shape, count)| (entity, shape, count))
            });
        for (entity, shape, count) in shapes.filter(|(_, shape, _)| is_metadata(shape.kind)) {
            any = true;
            let (store, symbol) = (&shape.store, self.paint.symbol(shape.kind));
            let what = match shape.kind {
                ActionKind::Bookkeeping => "sync status and errors",
                _ => "version, time and origin",
            };
            self.line(&format!("  {symbol} {store}.{entity}: {} of {}", what, counted(*count, "record")));
        }
        if any {
            self.line("");
        }
    }

    fn conflicts(&mut self, plan: &Plan) {
        let mut settled = Vec::new();
        let mut closed = Vec::new();
        for record in plan.records.conflicted() {
            let by_rule = record.conflicts.iter().filter(|found| found.status == ConflictStatus::Resolved);
            settled.extend(by_rule.map(|conflict| settled_line(&record, conflict)));
            closed.extend(record.closes.iter().cloned());
        }
        closed.extend(plan.withdrawn.iter().cloned());
        if !settled.is_empty() {
            self.line("Conflicts settled by the rule (every losing value is kept in sync_conflicts):");
            self.list(settled.into_iter());
        }
        let closes: Vec<String> = closed
            .iter()
            .map(|conflict| {
                let word = conflict.status.as_str();
                let by = conflict.resolved_by.as_deref().filter(|by| *by != word);
                let by = by.map_or(String::new(), |by| format!(" by {by}"));
                let won = conflict.winner.as_ref().map_or(String::new(), |winner| format!(", {winner} wins"));
                format!("{}: {word}{by}{won} ({})", conflict.record, conflict.id)
            })
            .collect();
        if !closes.is_empty() {
            self.line("Open conflicts that end:");
            self.list(closes.into_iter());
        }
    }

    /// Lines under a heading, the first ones in full.
    fn list(&mut self, lines: impl ExactSizeIterator<Item = String>) {
        let more = lines.len().saturating_sub(self.limit());
        let limit = self.limit();
        for line in lines.take(limit) {
            self.line(&format!("  {}", clean(&line)));
        }
        if more > 0 {
            self.line(&format!("  ... and {more} more (--verbose shows them)"));
        }
        self.line("");
    }

    /// How rows that carry no key come to their records.
    fn meetings(&mut self, plan: &Plan) {
        let lines: Vec<String> = meeting_lines(plan);
        if !lines.is_empty() {
            self.line("Rows that carry no key, and whose they are:\n");
            self.list(lines.into_iter());
        }
    }

    fn notices(&mut self, plan: &Plan) {
        let mut by_kind: BTreeMap<NoticeKind, Vec<&Notice>> = BTreeMap::new();
        for notice in &plan.notices {
            by_kind.entry(notice.kind).or_default().push(notice);
        }
        for (kind, notices) in by_kind {
            let heading = format!("Warning: {}", heading(kind, &notices));
            self.line(&self.paint.yellow(&heading));
            self.list(notices.into_iter().map(notice_line));
        }
    }

    fn guards(&mut self, plan: &Plan) {
        for trip in &plan.guards {
            let text = format!("Error: {}", clean(&trip.to_string()));
            self.line(&self.paint.red(&text));
        }
        if !plan.guards.is_empty() {
            let entities: BTreeSet<&str> = plan.guards.iter().map(|trip| trip.entity.as_str()).collect();
            let entities: Vec<&str> = entities.into_iter().collect();
            self.line(&format!("Nothing is done about {} in any store.\n", entities.join(", ")));
        }
    }

    fn left(&mut self, plan: &Plan) {
        let lines = left(plan);
        if !lines.is_empty() {
            self.line("Left as it is:");
            self.list(lines.into_iter());
        }
        for line in scope(plan) {
            self.line(&clean(&line));
        }
    }

    fn summary(&mut self, plan: &Plan) {
        let totals = plan.totals();
        if totals.sum() == 0 {
            let line = self.nothing(plan);
            self.line(&line);
            return;
        }
        let line = format!(
            "Plan: {} to add, {} to change, {} to destroy.",
            totals.create, totals.update, totals.delete
        );
        self.line(&self.paint.bold(&line));
        if totals.metadata > 0 {
            self.line(&format!("Metadata only: {}.", counted(totals.metadata, "row")));
        }
        if let Some(cost) = self.cost(plan) {
            self.line(&cost);
        }
    }

    fn nothing(&self, plan: &Plan) -> String {
        if !plan.guards.is_empty() {
            return self.paint.bold("Nothing will be written: see the errors above.");
        }
        // What a change that breaks a rule holds elsewhere counts with that change.
        let named = count_of(plan, &[NoticeKind::Held, NoticeKind::Regressed]);
        let rejected = count_of(plan, &[NoticeKind::Rejected]);
        let held = if named + rejected > 0 { named } else { standing(plan, Standing::Held) };
        let unread = count_of(plan, &[NoticeKind::Unreachable]) > 0;
        let unknown = standing(plan, Standing::Unknown);
        let waiting = standing(plan, Standing::Paused) + standing(plan, Standing::Pending);
        let mut line = self.paint.bold("No changes.");
        let rest = match (held + rejected > 0, unread) {
            (true, _) => format!(
                " Nothing can be written now: {} held, {} with a rejected change (named above).",
                counted(held, "record"),
                rejected
            ),
            (false, true) => " The stores that could be read hold what they should.".to_owned(),
            (false, false) if unknown > 0 => format!(
                " Nothing can be written now: of {} it is not known whether a store has {} (named above).",
                counted(unknown, "record"),
                if unknown == 1 { "it" } else { "them" }
            ),
            (false, false) if waiting > 0 => format!(
                " Nothing can be written now: {} for writing that is paused, refused or failed a short while ago (`trueup status`).",
                counted(waiting, "record") + if waiting == 1 { " waits" } else { " wait" }
            ),
            (false, false) if !plan.targets.is_empty() => {
                " Every store holds of the targets what the manifests say it should.".to_owned()
            }
            (false, false) if standing(plan, Standing::Skipped) > 0 => {
                " Every store that may be written holds what the manifests say it should.".to_owned()
            }
            (false, false) => " Every store holds what the manifests say it should.".to_owned(),
        };
        line.push_str(&rest);
        let remembered = plan.records.noted();
        if remembered > 0 {
            let _ =
                write!(line, "\n{} will be taken note of, without a write.", counted(remembered, "record"));
        }
        line
    }

    fn cost(&self, plan: &Plan) -> Option<String> {
        let rates = &self.options.rates;
        let cost = cost(plan, rates);
        let parts: Vec<String> = cost
            .iter()
            .map(|(store, cost)| {
                let batches = cost.batches.map_or(String::new(), |batches| {
                    format!(" in {batches} batch{}", if batches == 1 { "" } else { "es" })
                });
                let calls = cost.calls.map_or(String::new(), |calls| {
                    let wait = match cost.wait_seconds.unwrap_or(0) {
                        0 => String::new(),
                        seconds => format!(
                            ", about {} at {} a minute",
                            counted(seconds.div_ceil(60), "minute"),
                            rates.calls_per_minute.get(store).copied().unwrap_or_default()
                        ),
                    };
                    format!(" (about {}{wait})", counted(calls, "call"))
                });
                let bill =
                    cost.billed_bytes.map_or(String::new(), |bytes| format!(" (billed {})", size(bytes)));
                format!("{store} {}{batches}{calls}{bill}", counted(cost.rows, "row"))
            })
            .collect();
        (!parts.is_empty()).then(|| format!("Cost: {}.", parts.join(", ")))
    }
}

fn is_metadata(kind: ActionKind) -> bool {
    matches!(kind, ActionKind::Metadata | ActionKind::Bookkeeping)
}

/// Fields that are empty are left out where a row comes or goes.
fn is_shown(kind: ActionKind, change: &Change) -> bool {
    match kind {
        ActionKind::Create => !change.after.is_null(),
        ActionKind::Delete => change.before.value().is_none_or(|value| !value.is_null()),
        _ => true,
    }
}

/// How many fields of the row stay as they are, as far as is known.
fn hidden_fields(action: &Action) -> u64 {
    if action.kind != ActionKind::Update {
        return 0;
    }
    let changed: BTreeSet<&FieldName> = action.changes.iter().map(|change| &change.field).collect();
    action.advance.fields.keys().filter(|field| !changed.contains(field)).count() as u64
}

fn long_change(kind: ActionKind, change: &Change, all: bool) -> (Vec<Line>, &'static str) {
    match (kind, change.before.value()) {
        (ActionKind::Create, _) => (value::whole(&change.after, all, Line::New), ""),
        (ActionKind::Delete, Some(before)) => (value::whole(before, all, Line::Old), " -> null"),
        (_, Some(before)) if before.is_null() => (value::whole(&change.after, all, Line::New), " null ->"),
        (_, Some(before)) if change.after.is_null() => (value::whole(before, all, Line::Old), " -> null"),
        (_, Some(before)) => (value::diff(before, &change.after), ""),
        (_, None) => (value::whole(&change.after, all, Line::New), " (unreadable) ->"),
    }
}

/// Records that stand so in any store, counted once an entity at its highest store.
fn standing(plan: &Plan, standing: Standing) -> u64 {
    plan.books
        .values()
        .map(|stores| stores.values().map(|books| books.count(standing)).max().unwrap_or(0))
        .sum()
}

/// Records that notices of these kinds are about, and notices that are about none.
fn count_of(plan: &Plan, kinds: &[NoticeKind]) -> u64 {
    let of_kind = || plan.notices.iter().filter(|notice| kinds.contains(&notice.kind));
    let named: BTreeSet<&RecordId> = of_kind().filter_map(|notice| notice.record.as_ref()).collect();
    let unnamed = of_kind().filter(|notice| notice.record.is_none()).count();
    (named.len() + unnamed) as u64
}

/// A value for showing elsewhere, escaped; `sensitive` hides it.
pub fn shown(cell: &Cell, sensitive: bool) -> String {
    if sensitive { "(sensitive value)".to_owned() } else { value::inline_cell(cell) }
}
