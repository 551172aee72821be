//! A table's columns as the service describes them, and what of them is read and written.

use serde_json::Value as Json;

/// What a column, or a field of a STRUCT, holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// STRING.
    Text,
    /// INT64.
    Int,
    /// FLOAT64.
    Float,
    /// NUMERIC: 29 digits before the point, 9 after it.
    Numeric,
    /// BIGNUMERIC: 38 digits on both sides.
    BigNumeric,
    /// BOOL.
    Bool,
    /// DATE.
    Date,
    /// TIMESTAMP.
    Timestamp,
    /// DATETIME: without a zone.
    DateTime,
    /// TIME: of a day, without a zone.
    Time,
    /// JSON.
    Json,
    /// BYTES.
    Bytes,
    /// STRUCT.
    Record,
    /// Any other type, which is read as text and not written.
    Other,
}

impl Kind {
    fn of(word: &str) -> Self {
        match word {
            "STRING" => Self::Text,
            "INTEGER" | "INT64" => Self::Int,
            "FLOAT" | "FLOAT64" => Self::Float,
            "NUMERIC" => Self::Numeric,
            "BIGNUMERIC" => Self::BigNumeric,
            "BOOLEAN" | "BOOL" => Self::Bool,
            "DATE" => Self::Date,
            "TIMESTAMP" => Self::Timestamp,
            "DATETIME" => Self::DateTime,
            "TIME" => Self::Time,
            "JSON" => Self::Json,
            "BYTES" => Self::Bytes,
            "RECORD" | "STRUCT" => Self::Record,
            _ => Self::Other,
        }
    }

    /// The type as SQL and parameters name it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Text | Self::Other => "STRING",
            Self::Int => "INT64",
            Self::Float => "FLOAT64",
            Self::Numeric => "NUMERIC",
            Self::BigNumeric => "BIGNUMERIC",
            Self::Bool => "BOOL",
            Self::Date => "DATE",
            Self::Timestamp => "TIMESTAMP",
            Self::DateTime => "DATETIME",
            Self::Time => "TIME",
            Self::Json => "JSON",
            Self::Bytes => "BYTES",
            Self::Record => "STRUCT",
        }
    }
}

/// What a column's declaration keeps out besides what its type does. The service would round numbers without a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// NULL is kept out.
    pub(super) required: bool,
    /// The most characters of a text.
    pub(super) length: Option<usize>,
    /// The most digits of a number before the point, and after it.
    pub(super) digits: Option<(usize, usize)>,
}

impl Limits {
    fn parse(json: &Json) -> Self {
        let number = |name: &str| match json.get(name)? {
            Json::String(text) => text.parse().ok(),
            other => other.as_u64().and_then(|number| usize::try_from(number).ok()),
        };
        let scale = number("scale").unwrap_or(0);
        Self {
            required: json.get("mode").and_then(Json::as_str) == Some("REQUIRED"),
            length: number("maxLength"),
            digits: number("precision").map(|precision: usize| (precision.saturating_sub(scale), scale)),
        }
    }
}

/// A column, or a field of a STRUCT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// An ARRAY of the kind.
    pub(super) repeated: bool,
    pub(super) limits: Limits,
    /// The fields of a STRUCT.
    pub(super) fields: Vec<Node>,
}

impl Node {
    /// The field of a name. The service does not tell upper from lower case in names of columns.
    pub(super) fn find<'n>(nodes: &'n [Self], name: &str) -> Option<&'n Self> {
        nodes.iter().find(|node| node.name.eq_ignore_ascii_case(name))
    }

    /// Whether it, or a field in it, is of a type that is not known here.
    pub(super) fn is_strange(&self) -> bool {
        self.kind == Kind::Other || self.fields.iter().any(Self::is_strange)
    }

    /// A column of which nothing but this is known.
    pub(super) fn of_word(kind: &str, repeated: bool) -> Self {
        Self {
            name: String::new(),
            kind: Kind::of(kind),
            repeated,
            limits: Limits::default(),
            fields: Vec::new(),
        }
    }

    fn parse(json: &Json) -> Option<Self> {
        Some(Self {
            name: json.get("name")?.as_str()?.to_owned(),
            kind: Kind::of(json.get("type")?.as_str()?),
            repeated: json.get("mode").and_then(Json::as_str) == Some("REPEATED"),
            limits: Limits::parse(json),
            fields: Self::parse_all(json.get("fields")),
        })
    }

    fn parse_all(json: Option<&Json>) -> Vec<Self> {
        json.and_then(Json::as_array)
            .map(|fields| fields.iter().filter_map(Self::parse).collect())
            .unwrap_or_default()
    }
}

/// A table as `tables.get` describes it.
#[derive(Debug, Clone)]
pub(super) struct TableInfo {
    pub(super) columns: Vec<Node>,
    /// A table, and not a view of one.
    pub(super) writable: bool,
    /// When the table was last changed, as the service has it, with its etag: equal texts, equal tables.
    pub(super) modified: Option<String>,
    /// The time in it, in milliseconds since 1970.
    pub(super) modified_ms: Option<i64>,
}

impl TableInfo {
    pub(super) fn parse(json: &Json) -> Self {
        let text = |name: &str| json.get(name).and_then(Json::as_str);
        let modified = text("lastModifiedTime").map(|time| {
            // A table that was dropped and made again may have been changed in the same millisecond.
            format!("{time} {} {}", text("creationTime").unwrap_or(""), text("etag").unwrap_or(""))
        });
        // Rows on their way through the streaming buffer do not move that time.
        let streaming = json.get("streamingBuffer").is_some_and(|buffer| !buffer.is_null());
        // That of a view is when it was defined, whatever its rows do.
        let writable = text("type").is_none_or(|kind| kind == "TABLE");
        Self {
            columns: Node::parse_all(json.get("schema").and_then(|schema| schema.get("fields"))),
            writable,
            modified: modified.filter(|_| !streaming && writable),
            modified_ms: text("lastModifiedTime").and_then(|time| time.parse().ok()),
        }
    }
}
