//! Triggers that keep the sync metadata for applications that do not: on an edit they raise the version, and note when and where it was made.
//!
//! trueup's own transactions carry a setting by which the trigger knows them; it ends with the transaction. Whatever goes wrong in a
//! trigger, the application's write goes through as it would without one. Names begin with `trueup_`, which tells these triggers from
//! other people's, which might do anything.

use sqlx::Row as _;

use crate::model::{Column, Mapped, SyncPlace, fingerprint};

use super::super::{MigrationStep, sync};
use super::layout::{TableInfo, TableNames};
use super::session::{Session, quoted};

/// The channel of notifications.
pub const NOTIFY_CHANNEL: &str = "trueup";

/// The longest name in bytes.
const LONGEST_NAME: usize = 63;

/// The present time as text, in UTC.
const NOW_TEXT: &str = "to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";

/// The trigger of a mapping, if the table lacks it or has an older form of it. `declared` are the columns as migration adds them: those that
/// are not there yet have these types.
pub(super) async fn missing(
    session: &mut Session,
    mapped: &Mapped,
    names: &TableNames,
    info: Option<&TableInfo>,
    declared: &[(String, &'static str)],
) -> Result<Option<MigrationStep>, sqlx::Error> {
    let body = Body { mapped, info, declared }.text();
    step(session, names, &name(mapped), ("BEFORE INSERT OR UPDATE", &body)).await
}

/// The trigger that notifies listeners of every change, naming the record, if the table lacks it. A notification that nobody listens to is
/// lost.
pub(super) async fn missing_notice(
    session: &mut Session,
    mapped: &Mapped,
    names: &TableNames,
) -> Result<Option<MigrationStep>, sqlx::Error> {
    let store = text(mapped.mapping.store.as_str());
    let entity = text(mapped.name().as_str());
    // A key inside a JSON value is not looked for: that something changed is enough.
    let plain = mapped.mapping.key.iter().all(|part| part.column.0.len() == 1);
    let parts = mapped.mapping.key.iter().map(|part| format!(", one.{}::text", quoted(part.column.head())));
    let parts: String = if plain { parts.collect() } else { String::new() };
    let body = format!(
        "DECLARE\n  one record;\n  said text;\nBEGIN\n\
         \x20 IF current_setting('trueup.writer', true) = 'trueup' THEN RETURN NULL; END IF;\n\
         \x20 IF TG_OP = 'DELETE' THEN one := OLD; ELSE one := NEW; END IF;\n\
         \x20 said := json_build_array({store}, {entity}{parts})::text;\n\
         \x20 IF octet_length(said) > 7900 THEN said := json_build_array({store}, {entity})::text; END IF;\n\
         \x20 PERFORM pg_notify('{NOTIFY_CHANNEL}', said);\n\
         \x20 RETURN NULL;\nEXCEPTION WHEN others THEN\n  RETURN NULL;\nEND\n"
    );
    let name = format!("{}_note", name(mapped));
    let name = if name.len() <= LONGEST_NAME { name } else { format!("trueup_{}", fingerprint(&name)) };
    step(session, names, &name, ("AFTER INSERT OR UPDATE OR DELETE", &body)).await
}

/// Makes a trigger, unless the table has it as it is to be. `when` it runs, and what it does.
async fn step(
    session: &mut Session,
    names: &TableNames,
    name: &str,
    (when, body): (&str, &str),
) -> Result<Option<MigrationStep>, sqlx::Error> {
    let sign = format!("trueup {}", fingerprint(body));
    if has(session, names, name, &sign).await? {
        return Ok(None);
    }
    let function = format!("{}.{}", quoted(&names.schema), quoted(name));
    let (table, trigger) = (names.sql(), quoted(name));
    Ok(Some(MigrationStep {
        adds: format!("trigger {trigger} on `{}`", names.title),
        statement: format!(
            "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql \
             SET search_path = pg_catalog, pg_temp AS $trueup$\n-- {sign}\n{body}$trueup$; \
             DROP TRIGGER IF EXISTS {trigger} ON {table}; \
             CREATE TRIGGER {trigger} {when} ON {table} FOR EACH ROW EXECUTE FUNCTION {function}()"
        ),
    }))
}

/// Whether a table has a trigger as it is now made.
async fn has(session: &mut Session, names: &TableNames, name: &str, sign: &str) -> Result<bool, sqlx::Error> {
    let query = session
        .query(
            "SELECT p.prosrc FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid \
             WHERE n.nspname = $1 AND c.relname = $2 AND g.tgname = $3 AND g.tgenabled <> 'D'",
        )
        .bind(names.schema.clone())
        .bind(names.name.clone())
        .bind(name.to_owned());
    for row in session.all(query).await? {
        if row.try_get::<String, _>(0)?.contains(sign) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// One for each store: two may live in one schema.
fn name(mapped: &Mapped) -> String {
    let whose = format!("{}_{}", mapped.mapping.store, mapped.name());
    let name = format!("trueup_{whose}");
    if name.len() <= LONGEST_NAME { name } else { format!("trueup_{}", fingerprint(&whose)) }
}

/// What makes up a trigger's function.
struct Body<'a> {
    mapped: &'a Mapped,
    info: Option<&'a TableInfo>,
    declared: &'a [(String, &'static str)],
}

impl Body<'_> {
    fn text(&self) -> String {
        let (declare, work) = match &self.mapped.mapping.sync {
            SyncPlace::Struct(column) | SyncPlace::Json(column) | SyncPlace::JsonText(column) => {
                self.in_json(column)
            }
            place => self.in_columns(place),
        };
        format!(
            "DECLARE\n  before bigint := 0;\n  after bigint;\n{declare}BEGIN\n\
             \x20 IF current_setting('trueup.writer', true) = 'trueup' THEN RETURN NEW; END IF;\n\
             \x20 IF TG_OP = 'UPDATE' AND NOT ({changed}) THEN RETURN NEW; END IF;\n{work}\
             \x20 RETURN NEW;\nEXCEPTION WHEN others THEN\n  RETURN NEW;\nEND\n",
            changed = self.changed(),
        )
    }

    /// Whether a mapped field differs: as text, whatever its type makes of equality.
    fn changed(&self) -> String {
        let fields = self.mapped.mapping.fields.values().filter(|field| field.direction.reads());
        let terms = fields.filter(|field| !self.generated(field.column.head())).map(|field| {
            let whole = quoted(field.column.head());
            let inside = field.column.0.get(1..).unwrap_or_default();
            let [old, new] = ["OLD", "NEW"].map(|row| {
                let json =
                    ["json", "jsonb"].iter().any(|json| self.base(field.column.head()).ends_with(json));
                if json && !inside.is_empty() {
                    format!("{row}.{whole}::jsonb #> {}", path(inside))
                } else {
                    format!("{row}.{whole}::text COLLATE \"C\"")
                }
            });
            format!("({old}) IS DISTINCT FROM ({new})")
        });
        let terms: Vec<String> = terms.collect();
        if terms.is_empty() { "false".to_owned() } else { terms.join(" OR ") }
    }

    fn in_columns(&self, place: &SyncPlace) -> (String, String) {
        let [version, time, author, ..] = place.columns().map(|column| column.map(Column::head));
        let Some(version) = version.map(quoted) else { return (String::new(), String::new()) };
        let author = author.map(|column| (quoted(column), text(self.mapped.mapping.store.as_str())));
        let time = time.and_then(|column| Some((quoted(column), self.now(column)?)));
        let others: Vec<(String, String)> = time.into_iter().chain(author).collect();
        let lines = |line: &dyn Fn(&str, &str) -> String| -> String {
            others.iter().map(|(column, ours)| line(column, ours)).collect()
        };
        let edit = lines(&|column, ours| {
            format!(
                "    IF NEW.{column}::text IS NOT DISTINCT FROM OLD.{column}::text THEN NEW.{column} := {ours}; END IF;\n"
            )
        });
        let new = lines(&|column, ours| {
            format!("    IF NEW.{column} IS NULL THEN NEW.{column} := {ours}; END IF;\n")
        });
        let work = format!(
            "  after := {after};\n  IF TG_OP = 'UPDATE' THEN\n    before := coalesce({before}, 0);\n\
             \x20   IF coalesce(after, 0) <= before THEN NEW.{version} := before + 1; END IF;\n{edit}\
             \x20 ELSIF NEW.{version} IS NULL THEN\n    NEW.{version} := 1;\n{new}  END IF;\n",
            after = number(&format!("NEW.{version}::text")),
            before = number(&format!("OLD.{version}::text")),
        );
        (String::new(), work)
    }

    fn in_json(&self, column: &Column) -> (String, String) {
        let whole = quoted(column.head());
        let inside = column.0.get(1..).unwrap_or_default();
        let [version, time, author, ..] =
            sync::PARTS.map(|name| path(&[inside, &[name.to_owned()]].concat()));
        let ours = text(self.mapped.mapping.store.as_str());
        let kept = |part: &str, ours: &str| {
            format!(
                "CASE WHEN TG_OP = 'INSERT' THEN coalesce(meta #>> {part}, {ours}) \
                 WHEN meta #>> {part} IS DISTINCT FROM was #>> {part} THEN meta #>> {part} ELSE {ours} END"
            )
        };
        let object = format!(
            "jsonb_build_object('version', after, 'last_updated', {}, 'last_updated_by', {})",
            kept(&time, NOW_TEXT),
            kept(&author, &ours),
        );
        let work = format!(
            "  meta := nullif(NEW.{whole}::text, '')::jsonb;\n\
             \x20 IF coalesce(jsonb_typeof(meta), 'null') NOT IN ('object', 'null') THEN RETURN NEW; END IF;\n\
             \x20 meta := {empty_or_meta};\n\
             \x20 after := {after};\n  IF TG_OP = 'UPDATE' THEN\n    was := nullif(OLD.{whole}::text, '')::jsonb;\n\
             \x20   before := coalesce({before}, 0);\n\
             \x20   IF coalesce(after, 0) <= before THEN after := before + 1; END IF;\n\
             \x20 ELSIF after IS NULL THEN\n    after := 1;\n  ELSE\n    RETURN NEW;\n  END IF;\n\
             \x20 NEW.{whole} := {put};\n",
            empty_or_meta = object_or_empty("meta"),
            after = number(&format!("meta #>> {version}")),
            before = number(&format!("was #>> {version}")),
            put = put("meta", inside, &object),
        );
        ("  meta jsonb;\n  was jsonb;\n".to_owned(), work)
    }

    /// The present time as a column takes it; none where it takes none.
    fn now(&self, column: &str) -> Option<String> {
        let base = self.base(column);
        match base.rsplit('.').next().unwrap_or_default() {
            "timestamptz" => Some("clock_timestamp()".to_owned()),
            "timestamp" => {
                let zone = self.mapped.mapping.timezone.iana_name().unwrap_or("UTC");
                Some(format!("clock_timestamp() AT TIME ZONE {}", text(zone)))
            }
            "text" | "varchar" | "bpchar" => Some(NOW_TEXT.to_owned()),
            _ => None,
        }
    }

    /// A column's type.
    fn base(&self, column: &str) -> &str {
        let there = self.info.and_then(|info| info.columns.get(info.position(column)?));
        let made = || self.declared.iter().find(|(name, _)| name == column).map(|(_, declared)| *declared);
        there.map(|column| column.base.as_str()).or_else(made).unwrap_or_default()
    }

    fn generated(&self, column: &str) -> bool {
        // The database computes it after this trigger.
        self.info
            .and_then(|info| info.columns.get(info.position(column)?))
            .is_some_and(|column| column.generated)
    }
}

/// A text as SQL has it.
fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A path as the operators of `jsonb` take it.
fn path(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| text(name)).collect();
    format!("ARRAY[{}]::text[]", names.join(", "))
}

/// A whole number out of a text; null where it is none.
fn number(text: &str) -> String {
    format!("CASE WHEN {text} ~ '^-?[0-9]{{1,18}}$' THEN ({text})::bigint END")
}

fn object_or_empty(json: &str) -> String {
    format!("CASE WHEN jsonb_typeof({json}) = 'object' THEN {json} ELSE '{{}}'::jsonb END")
}

/// An object with another one put over what it has at a path.
fn put(json: &str, names: &[String], object: &str) -> String {
    match names.split_first() {
        None => format!("{json} || {object}"),
        Some((first, rest)) => {
            let first = text(first);
            let below = format!("({})", object_or_empty(&format!("({json} -> {first})")));
            format!("{json} || jsonb_build_object({first}, {})", put(&below, rest, object))
        }
    }
}
