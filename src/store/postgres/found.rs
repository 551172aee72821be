//! What tables a schema has, for those who have yet to map them.

use sqlx::Row as _;

use crate::model::{FieldType, FoundColumn, FoundTable};

use super::kind::Kind;
use super::session::Session;

/// The tables of a schema, but for those that extensions brought.
pub(super) async fn tables(session: &mut Session, schema: &str) -> Result<Vec<FoundTable>, sqlx::Error> {
    // A domain counts as its base type. A column's place in the primary key is looked up in the key's index. An identity column that is part of
    // the key counts as writable, since its value can be given. A foreign key that refers to anything but a primary key is left out.
    let sql = "SELECT c.relname::text, a.attname::text, b.oid::int8, \
        a.attnotnull OR COALESCE(d.typnotnull, false), a.attgenerated <> '' OR (a.attidentity = 'a' AND NOT EXISTS \
            (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY (i.indkey::int2[]))), \
        (SELECT pg_catalog.array_position(i.indkey::int2[], a.attnum)::int8 FROM pg_catalog.pg_index i \
            WHERE i.indrelid = c.oid AND i.indisprimary), \
        EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND NOT i.indisprimary \
            AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indnkeyatts = 1 \
            AND (i.indkey::int2[])[0] = a.attnum), \
        (SELECT r.relname::text FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_class r ON r.oid = f.confrelid \
            JOIN pg_catalog.pg_index k ON k.indrelid = r.oid AND k.indisprimary AND k.indnkeyatts = 1 \
            WHERE f.conrelid = c.oid AND f.contype = 'f' AND f.conkey = ARRAY[a.attnum] AND (k.indkey::int2[])[0] = f.confkey[1] \
            AND r.relnamespace = c.relnamespace ORDER BY f.conname LIMIT 1) \
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
        JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
        LEFT JOIN pg_catalog.pg_type d ON t.typtype = 'd' AND d.oid = t.oid \
        JOIN pg_catalog.pg_type b ON b.oid = COALESCE(NULLIF(d.typbasetype, 0), t.oid) \
        WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND NOT c.relispartition \
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.pg_class'::regclass \
            AND e.objid = c.oid AND e.deptype = 'e') \
        ORDER BY c.relname, a.attnum";
    let query = session.query(sql).bind(schema.to_owned());
    let mut tables: Vec<FoundTable> = Vec::new();
    let mut key: Vec<(i64, String)> = Vec::new();
    for row in session.all(query).await? {
        let (table, column): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        if tables.last().is_none_or(|last| last.name != table) {
            key.clear();
            tables.push(FoundTable { name: table, ..FoundTable::default() });
        }
        let Some(table) = tables.last_mut() else { continue };
        if let Some(place) = row.try_get::<Option<i64>, _>(5)? {
            key.push((place, column.clone()));
            key.sort();
            table.key = key.iter().map(|(_, column)| column.clone()).collect();
        }
        table.columns.push(FoundColumn {
            path: vec![column],
            ty: field_type(Kind::of(row.try_get(2)?)),
            loose: false,
            required: row.try_get(3)?,
            unique: row.try_get(6)?,
            computed: row.try_get(4)?,
            references: row.try_get(7)?,
        });
    }
    Ok(tables)
}

fn field_type(kind: Kind) -> FieldType {
    match kind {
        Kind::Bool => FieldType::Bool,
        Kind::Int2 | Kind::Int4 | Kind::Int8 => FieldType::Int64,
        Kind::Float4 | Kind::Float8 => FieldType::Float64,
        Kind::Numeric => FieldType::Numeric,
        Kind::Date => FieldType::Date,
        Kind::Timestamp | Kind::Timestamptz => FieldType::Timestamp,
        Kind::Json | Kind::Jsonb => FieldType::Json,
        Kind::Texts => FieldType::StringList,
        Kind::Text | Kind::Uuid | Kind::Cast => FieldType::String,
    }
}
