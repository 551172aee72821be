//! What a table has, and where in its rows a mapping's parts stand.

use sqlx::Row as _;

use crate::model::{ErrorKind, FieldType, Form, Mapped, StoreError, StoreName, WriteOp, fingerprint};

pub(super) use super::super::places::{MetaPlace, Place, Places};
use super::super::places::{Positions, no_key_column};
use super::super::tables::{no_table, table_of};
use super::error::store_error;
use super::kind::Kind;
use super::session::{Session, quoted};

#[derive(Debug, Clone)]
pub(super) struct ColumnInfo {
    pub(super) name: String,
    /// Its number, which no other column of the table ever had.
    pub(super) number: i16,
    pub(super) kind: Kind,
    /// Its type without a length, domains resolved, as SQL has it: `pg_catalog.int8`.
    pub(super) base: String,
    /// The database computes it: it is read, never written.
    pub(super) generated: bool,
    /// `GENERATED ALWAYS AS IDENTITY`: it is never updated. As the key of a new row it is written all the same, by overriding it.
    pub(super) identity: bool,
    /// Its type has a length or precision, to which the database fits what is written.
    pub(super) fitted: bool,
    /// What its text depends on besides the row, such as an enum's labels; empty: on nothing. None: on something that we cannot observe.
    pub(super) depends: Option<String>,
}

impl ColumnInfo {
    /// Whether the database sees to the column's values by itself.
    pub(super) fn is_computed(&self) -> bool {
        self.generated || self.identity
    }

    /// Whether the column gives every value of a type that it takes back as it was.
    fn keeps(&self, ty: FieldType) -> bool {
        !self.fitted
            && !self.is_computed()
            && matches!(
                (self.kind, ty),
                (Kind::Text, FieldType::String)
                    | (Kind::Bool, FieldType::Bool)
                    | (Kind::Int2 | Kind::Int4 | Kind::Int8, FieldType::Int64)
                    | (Kind::Float8, FieldType::Float64)
                    | (Kind::Date, FieldType::Date)
                    | (Kind::Timestamptz, FieldType::Timestamp)
                    | (Kind::Json | Kind::Jsonb, FieldType::Json)
            )
    }
}

/// A table as it is.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own about the table.
pub(super) struct TableInfo {
    pub(super) oid: i64,
    /// Its file, which is another one once the table was rewritten or emptied.
    pub(super) file: Option<i64>,
    /// A plain table, all of whose rows are in it.
    pub(super) plain: bool,
    /// A table, and not a view.
    pub(super) writable: bool,
    pub(super) columns: Vec<ColumnInfo>,
    /// Sets of columns, by number, in which no two rows are equal. Empty where other tables inherit from this one: its unique indexes say
    /// nothing about their rows.
    unique: Vec<Vec<i16>>,
    /// No insert or update can change other rows of the table, or write anything else than was given: neither the table nor a partition or
    /// child of it has a trigger or rule that is not ours, is a foreign table, or is referred to by a key that acts on updates.
    pub(super) quiet: bool,
    /// No delete can change other rows: none of them is referred to by a key that acts on deletes.
    pub(super) quiet_deletes: bool,
    /// The transaction's snapshot.
    pub(super) snapshot: String,
    pub(super) database: i64,
    /// The server repeats what another one does.
    standby: bool,
    /// How the database keeps text.
    encoding: String,
}

impl TableInfo {
    /// A column's place. Names of columns tell upper from lower case.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

/// A mapping laid onto a table as it is.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// The table's name as SQL has it.
    pub(super) table: String,
    /// The table's name for people.
    pub(super) title: String,
    pub(super) info: TableInfo,
    /// The key's columns, by their place in the table.
    pub(super) key: Vec<usize>,
    /// The other columns that are read, by their place in the table; first those of [`Places::compared`].
    pub(super) slots: Vec<usize>,
    pub(super) places: Places,
    /// Mapped columns that the table lacks.
    pub(super) missing: Vec<String>,
}

/// Names of the table that an entity's mapping names.
#[derive(Debug, Clone)]
pub(super) struct TableNames {
    pub(super) schema: String,
    pub(super) name: String,
    /// For people.
    pub(super) title: String,
    /// Whether it is the system's, and no mapping of the manifests names it.
    pub(super) system: bool,
}

impl TableNames {
    pub(super) fn of(store: &StoreName, schema: &str, mapped: &Mapped) -> Result<Self, StoreError> {
        let table = table_of(store, "Postgres", mapped)?;
        Ok(Self {
            schema: table.schema.clone().unwrap_or_else(|| schema.to_owned()),
            name: table.name.clone(),
            title: table.to_string(),
            system: mapped.entity.system,
        })
    }

    /// As SQL has it.
    pub(super) fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

/// A table as it is; none if it is not there.
pub(super) async fn table_info(
    session: &mut Session,
    names: &TableNames,
) -> Result<Option<TableInfo>, sqlx::Error> {
    // A row may stand in a partition or in a table that inherits, and what these have of their own acts on it as well.
    let sql = "WITH RECURSIVE kin (oid, root) AS (SELECT c.oid, true FROM pg_catalog.pg_class c \
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 \
          AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
          UNION SELECT i.inhrelid, false FROM pg_catalog.pg_inherits i JOIN kin ON i.inhparent = kin.oid) \
        SELECT c.oid::int8, c.relkind::text, pg_catalog.pg_relation_filenode(c.oid)::int8, \
        c.relkind = 'r' AND NOT c.relhassubclass, \
        NOT c.relhasrules AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger g JOIN kin ON g.tgrelid = kin.oid \
            WHERE NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgname NOT LIKE 'trueup\\_%') \
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_class k JOIN kin ON k.oid = kin.oid WHERE k.relkind = 'f') \
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint f JOIN kin ON f.confrelid = kin.oid \
            WHERE f.contype = 'f' AND f.confupdtype IN ('c', 'n', 'd')), \
        NOT EXISTS (SELECT FROM pg_catalog.pg_constraint f JOIN kin ON f.confrelid = kin.oid \
            WHERE f.contype = 'f' AND f.confdeltype IN ('c', 'n', 'd')), \
        ARRAY(SELECT pg_catalog.array_to_string((i.indkey::int2[])[0:i.indnkeyatts - 1], ' ') \
            FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid \
            AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL \
            AND (c.relkind = 'p' OR NOT c.relhassubclass)), \
        pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_is_in_recovery(), \
        pg_catalog.current_setting('server_encoding'), \
        (SELECT oid::int8 FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
        FROM pg_catalog.pg_class c JOIN kin ON kin.oid = c.oid WHERE kin.root";
    let query = session.query(sql).bind(names.schema.clone()).bind(names.name.clone());
    let Some(row) = session.all(query).await?.into_iter().next() else { return Ok(None) };
    let kind: String = row.try_get(1)?;
    let unique: Vec<String> = row.try_get(6)?;
    let numbers = |text: &String| text.split(' ').filter_map(|number| number.parse().ok()).collect();
    let mut info = TableInfo {
        oid: row.try_get(0)?,
        file: row.try_get(2)?,
        plain: row.try_get(3)?,
        writable: kind == "r" || kind == "p",
        columns: Vec::new(),
        unique: unique.iter().map(numbers).collect(),
        quiet: row.try_get(4)?,
        quiet_deletes: row.try_get(5)?,
        snapshot: row.try_get(7)?,
        standby: row.try_get(8)?,
        encoding: row.try_get(9)?,
        database: row.try_get(10)?,
    };
    // A domain is read as what it is made of, and a domain of a domain too.
    let sql = "SELECT a.attname::text, a.attnum, b.oid::int8, \
        pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(b.typname), \
        a.attidentity = 'a', a.attgenerated::text, b.typtype::text, \
        n.nspname = 'pg_catalog' AND b.typname !~ '^_?reg', \
        a.atttypmod <> -1 OR t.typtypmod <> -1 OR COALESCE(d.typtypmod <> -1, false), \
        (SELECT pg_catalog.md5(pg_catalog.string_agg(e.oid::text || ' ' || e.enumlabel, ',' ORDER BY e.oid)) \
            FROM pg_catalog.pg_enum e WHERE e.enumtypid = b.oid) \
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
        LEFT JOIN pg_catalog.pg_type d ON d.oid = t.typbasetype \
        JOIN pg_catalog.pg_type b ON b.oid = COALESCE(NULLIF(d.typbasetype, 0), d.oid, t.oid) \
        JOIN pg_catalog.pg_namespace n ON n.oid = b.typnamespace \
        WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
    let query = session.query(sql).bind(info.oid);
    for row in session.all(query).await? {
        let (base, typtype): (String, String) = (row.try_get(3)?, row.try_get(6)?);
        let (labels, builtin): (Option<String>, bool) = (row.try_get(9)?, row.try_get(7)?);
        let generated: String = row.try_get(5)?;
        let depends = match typtype.as_str() {
            // Computed when it is read.
            _ if generated == "v" => None,
            "e" => labels,
            "b" | "r" if builtin => Some(String::new()),
            _ => None,
        };
        info.columns.push(ColumnInfo {
            name: row.try_get(0)?,
            number: row.try_get(1)?,
            kind: Kind::of(row.try_get(2)?),
            base,
            generated: !generated.is_empty(),
            identity: row.try_get(4)?,
            fitted: row.try_get(8)?,
            depends,
        });
    }
    Ok(Some(info))
}

/// Refuses servers whose answers could not be relied on.
pub(super) fn check_server(store: &StoreName, standby: bool, encoding: &str) -> Result<(), StoreError> {
    let refused = |message: String| StoreError::new(ErrorKind::Unsupported, store, message);
    if standby {
        return Err(refused("the server is a standby, which lags behind".into())
            .hint("name the primary server in the store's `url`"));
    }
    if encoding != "UTF8" {
        // Keys would be sorted by the bytes of another encoding.
        return Err(refused(format!("the database keeps text as {encoding}"))
            .hint("only UTF-8 databases can be read in the order of keys"));
    }
    Ok(())
}

impl Layout {
    /// Lays a mapping onto its table.
    ///
    /// # Errors
    /// When there is no such table, or when it lacks a column of the key.
    pub(super) async fn of(
        store: &StoreName,
        session: &mut Session,
        names: &TableNames,
        mapped: &Mapped,
    ) -> Result<Self, StoreError> {
        let info = table_info(session, names).await.map_err(|error| store_error(store, &error))?;
        let info = info.ok_or_else(|| no_table(store, names.system, &names.title))?;
        check_server(store, info.standby, &info.encoding)?;
        let key = mapped.mapping.key.iter().map(|part| {
            let position = info.position(part.column.head());
            position.ok_or_else(|| no_key_column(store, &names.title, &part.column))
        });
        let key = key.collect::<Result<_, _>>()?;
        let mut columns = Positions::new(|name| info.position(name));
        let places = Places::of(mapped, &mut columns);
        let (slots, missing) = columns.done();
        Ok(Self { table: names.sql(), title: names.title.clone(), info, key, slots, places, missing })
    }

    /// The column of a slot.
    pub(super) fn column(&self, slot: usize) -> Option<&ColumnInfo> {
        self.info.columns.get(*self.slots.get(slot)?)
    }

    /// What a slot's bytes are.
    pub(super) fn kind(&self, slot: usize) -> Kind {
        self.column(slot).map_or(Kind::Cast, |column| column.kind)
    }

    /// The key's columns.
    pub(super) fn key_columns(&self) -> impl Iterator<Item = &ColumnInfo> + Clone {
        self.key.iter().filter_map(|position| self.info.columns.get(*position))
    }

    /// The texts of the key's parts.
    pub(super) fn key_texts(&self) -> impl Iterator<Item = String> + '_ {
        self.key_columns().map(|column| format!("t.{}::text", quoted(&column.name)))
    }

    /// The types of what is read, as a comment: a statement kept prepared is not run on other types than it was prepared for.
    pub(super) fn types(&self) -> String {
        let slots = self.slots.iter().filter_map(|position| self.info.columns.get(*position));
        let types: Vec<&str> = slots.map(|column| column.base.as_str()).collect();
        format!("/* {} */", fingerprint(&types.join(" ")))
    }

    /// Everything that is read: the texts of the key's parts, and the slots as they are sent.
    pub(super) fn select_list(&self) -> String {
        let slots = self.slots.iter().filter_map(|position| self.info.columns.get(*position));
        let slots = slots.map(|column| match column.kind {
            Kind::Cast => format!("t.{}::text", quoted(&column.name)),
            _ => format!("t.{}", quoted(&column.name)),
        });
        self.key_texts().chain(slots).collect::<Vec<_>>().join(", ")
    }

    /// The order of record keys: the bytes of each part's text. An index in that order is used.
    pub(super) fn key_order(&self) -> String {
        let parts = self.key_columns().map(|column| {
            let name = quoted(&column.name);
            match column.kind {
                Kind::Text => format!("t.{name} COLLATE \"C\""),
                // The order of the bytes that its text shows.
                Kind::Uuid => format!("t.{name}"),
                _ => format!("t.{name}::text COLLATE \"C\""),
            }
        });
        parts.collect::<Vec<_>>().join(", ")
    }

    /// Whether the row of a write, once it is there, surely holds what it was given, exactly as that was given.
    pub(super) fn keeps_as_given(&self, op: &WriteOp) -> bool {
        let (fields, updated, new) = match op {
            WriteOp::Create { fields, updated, .. } => (fields, updated, true),
            WriteOp::Update { fields, updated, .. } => (fields, updated, false),
            WriteOp::Delete { .. } => return false,
        };
        let keeps = |place: &Place, ty: FieldType| {
            place.path.is_empty() && self.column(place.slot).is_some_and(|column| column.keeps(ty))
        };
        let keeps_meta = match &self.places.meta {
            MetaPlace::None => true,
            MetaPlace::Object(place) => keeps(place, FieldType::Json),
            MetaPlace::Parts([version, time, origin, ..]) => {
                let parts =
                    [(version, FieldType::Int64), (time, FieldType::Timestamp), (origin, FieldType::String)];
                parts.into_iter().all(|(place, ty)| place.as_ref().is_some_and(|place| keeps(place, ty)))
            }
        };
        // A new row may be given a time by the table itself.
        let keeps_time = match (&self.places.updated, updated) {
            (None, _) => true,
            (Some(place), Some(_)) => keeps(place, FieldType::Timestamp),
            (Some(_), None) => !new,
        };
        self.info.quiet
            && keeps_meta
            && keeps_time
            && self.places.fields.iter().all(|field| {
                let written = fields.contains_key(&field.id);
                !written || (field.form == Form::Native && keeps(&field.place, field.ty))
            })
    }

    /// Whether the key of a new row surely is the one that it was given, as that was written.
    pub(super) fn keeps_keys(&self) -> bool {
        let kept = [Kind::Text, Kind::Int2, Kind::Int4, Kind::Int8, Kind::Uuid];
        self.key_columns().all(|column| !column.fitted && kept.contains(&column.kind))
    }

    /// Whether the table itself sees to it that no two rows have one key.
    pub(super) fn has_unique_key(&self) -> bool {
        let key: Vec<i16> = self.key_columns().map(|column| column.number).collect();
        self.info.unique.iter().any(|unique| unique.iter().all(|number| key.contains(number)))
    }
}
