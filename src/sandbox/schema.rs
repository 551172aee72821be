//! What objects there are and which fields they have: the standard ones and those that clients add.
//!
//! A field of a composite type is several columns, one a sub-field.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)] // The names are the server's.
pub(super) enum FieldType {
    Text,
    Number,
    Boolean,
    RawJson,
    DateTime,
    Date,
    Select,
    MultiSelect,
    Array,
    Uuid,
    Phones,
    Emails,
    Links,
    FullName,
    Address,
    Currency,
    Actor,
    Position,
    Relation,
}

impl FieldType {
    /// Those that clients may add, besides relations.
    pub(super) const CREATABLE: [Self; 13] = [
        Self::Text,
        Self::Number,
        Self::Boolean,
        Self::RawJson,
        Self::DateTime,
        Self::Date,
        Self::Select,
        Self::MultiSelect,
        Self::Array,
        Self::Uuid,
        Self::Phones,
        Self::Emails,
        Self::Links,
    ];

    /// The name in the API.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Number => "NUMBER",
            Self::Boolean => "BOOLEAN",
            Self::RawJson => "RAW_JSON",
            Self::DateTime => "DATE_TIME",
            Self::Date => "DATE",
            Self::Select => "SELECT",
            Self::MultiSelect => "MULTI_SELECT",
            Self::Array => "ARRAY",
            Self::Uuid => "UUID",
            Self::Phones => "PHONES",
            Self::Emails => "EMAILS",
            Self::Links => "LINKS",
            Self::FullName => "FULL_NAME",
            Self::Address => "ADDRESS",
            Self::Currency => "CURRENCY",
            Self::Actor => "ACTOR",
            Self::Position => "POSITION",
            Self::Relation => "RELATION",
        }
    }

    /// The sub-fields of a composite type; none for others.
    pub(super) fn parts(self) -> &'static [(&'static str, Kind)] {
        match self {
            Self::FullName => &[("firstName", Kind::Text), ("lastName", Kind::Text)],
            Self::Emails => &[("primaryEmail", Kind::Text), ("additionalEmails", Kind::List)],
            Self::Phones => &[
                ("primaryPhoneNumber", Kind::Text),
                ("primaryPhoneCountryCode", Kind::Text),
                ("primaryPhoneCallingCode", Kind::Text),
                ("additionalPhones", Kind::List),
            ],
            Self::Links => &[
                ("primaryLinkLabel", Kind::Text),
                ("primaryLinkUrl", Kind::Text),
                ("secondaryLinks", Kind::List),
            ],
            Self::Address => &[
                ("addressStreet1", Kind::Text),
                ("addressStreet2", Kind::Text),
                ("addressCity", Kind::Text),
                ("addressPostcode", Kind::Text),
                ("addressState", Kind::Text),
                ("addressCountry", Kind::Text),
                ("addressLat", Kind::Number),
                ("addressLng", Kind::Number),
            ],
            Self::Currency => &[("amountMicros", Kind::Number), ("currencyCode", Kind::Text)],
            Self::Actor => &[("source", Kind::Text), ("workspaceMemberId", Kind::Uuid), ("name", Kind::Text)],
            _ => &[],
        }
    }

    /// How a field that is one column is kept; relations to one are their `...Id`.
    fn kind(self) -> Kind {
        match self {
            Self::Number | Self::Position => Kind::Number,
            Self::Boolean => Kind::Bool,
            Self::RawJson => Kind::Json,
            Self::DateTime => Kind::Time,
            Self::Date => Kind::Date,
            Self::Select => Kind::Choice,
            Self::MultiSelect | Self::Array => Kind::List,
            Self::Uuid | Self::Relation => Kind::Uuid,
            _ => Kind::Text,
        }
    }

    /// Which column of it a unique index covers, as a suffix; none when it cannot be unique.
    pub(super) fn unique_part(self) -> Option<&'static str> {
        match self {
            Self::Text | Self::Number | Self::Uuid | Self::DateTime | Self::Date => Some(""),
            Self::Emails => Some(".primaryEmail"),
            Self::Links => Some(".primaryLinkUrl"),
            Self::Phones => Some(".primaryPhoneNumber"),
            _ => None,
        }
    }
}

/// How a column is kept and read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text; NULL reads back as `""`.
    Text,
    /// A double.
    Number,
    /// True or false.
    Bool,
    /// JSON as jsonb keeps it.
    Json,
    /// A JSON array; NULL reads back as `[]`.
    List,
    /// A time in UTC with milliseconds.
    Time,
    /// A date.
    Date,
    /// One of a field's options.
    Choice,
    /// A UUID.
    Uuid,
}

/// A column of an object's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    /// `jobTitle`, `name.firstName`, `companyId`.
    pub name: String,
    pub kind: Kind,
}

/// A choice of a `SELECT` or `MULTI_SELECT` field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Choice {
    pub value: String,
    pub label: String,
    pub position: i64,
    pub color: String,
}

/// Which side of a relation a field is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Relation {
    /// Whether this is the side with the column.
    pub to_one: bool,
    /// The other object's id.
    pub target: String,
    /// The other side's field name.
    pub target_field: String,
}

/// A field of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools)] // As the server has it.
pub(super) struct Field {
    pub id: String,
    pub name: String,
    pub label: String,
    #[serde(rename = "type")]
    pub kind: FieldType,
    pub unique: bool,
    pub system: bool,
    pub custom: bool,
    pub nullable: bool,
    pub description: Option<String>,
    pub icon: Option<String>,
    pub options: Vec<Choice>,
    pub relation: Option<Relation>,
}

impl Field {
    /// The columns that hold it.
    pub(super) fn columns(&self) -> Vec<Column> {
        let parts = self.kind.parts();
        if !parts.is_empty() {
            let column =
                |(part, kind): &(&str, Kind)| Column { name: format!("{}.{part}", self.name), kind: *kind };
            return parts.iter().map(column).collect();
        }
        match &self.relation {
            Some(relation) if relation.to_one => vec![Column { name: self.id_name(), kind: Kind::Uuid }],
            Some(_) => Vec::new(),
            None => vec![Column { name: self.name.clone(), kind: self.kind.kind() }],
        }
    }

    /// The name of the column that a relation to one is kept in.
    pub(super) fn id_name(&self) -> String {
        format!("{}Id", self.name)
    }

    /// The name of the column that has to be unique, if one has to.
    pub(super) fn unique_column(&self) -> Option<String> {
        let part = self.kind.unique_part().filter(|_| self.unique)?;
        Some(format!("{}{part}", self.name))
    }
}

/// An object: people, companies, or one that a client made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Object {
    pub id: String,
    pub singular: String,
    pub plural: String,
    pub label_singular: String,
    pub label_plural: String,
    pub description: Option<String>,
    pub icon: Option<String>,
    pub custom: bool,
    pub fields: Vec<Field>,
}

impl Object {
    /// The table that holds its records.
    pub(super) fn table(&self) -> String {
        format!("\"object_{}\"", self.singular)
    }

    /// All columns, `id` first.
    pub(super) fn columns(&self) -> Vec<Column> {
        self.fields.iter().flat_map(Field::columns).collect()
    }

    /// The field of this name.
    pub(super) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The relation to one that is kept in the column of this name.
    pub(super) fn relation_by_id_name(&self, name: &str) -> Option<&Field> {
        let relation = name.strip_suffix("Id")?;
        self.field(relation).filter(|field| field.relation.as_ref().is_some_and(|relation| relation.to_one))
    }

    /// `Person` for `person`.
    pub(super) fn type_name(&self) -> String {
        capitalised(&self.singular)
    }

    /// `People` for `people`.
    pub(super) fn plural_type_name(&self) -> String {
        capitalised(&self.plural)
    }
}

/// The same with its first letter in upper case.
pub(super) fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Everything there is.
#[derive(Debug, Clone, Default)]
pub(super) struct Schema {
    pub objects: Vec<Arc<Object>>,
}

impl Schema {
    /// The object whose records are at `/rest/{plural}`.
    pub(super) fn by_plural(&self, plural: &str) -> Option<&Arc<Object>> {
        self.objects.iter().find(|object| object.plural == plural)
    }

    /// The object of this singular name.
    pub(super) fn by_singular(&self, singular: &str) -> Option<&Arc<Object>> {
        self.objects.iter().find(|object| object.singular == singular)
    }

    /// The object of this id.
    pub(super) fn by_id(&self, id: &str) -> Option<&Arc<Object>> {
        self.objects.iter().find(|object| object.id == id)
    }
}

/// A field that every workspace has.
fn standard(name: &str, label: &str, kind: FieldType) -> Field {
    Field {
        id: super::value::new_uuid(),
        name: name.to_owned(),
        label: label.to_owned(),
        kind,
        unique: false,
        system: false,
        custom: false,
        nullable: true,
        description: None,
        icon: None,
        options: Vec::new(),
        relation: None,
    }
}

/// The fields that every object has.
pub(super) fn base_fields() -> Vec<Field> {
    let system = |name, label, kind| Field { system: true, nullable: false, ..standard(name, label, kind) };
    vec![
        Field { unique: true, ..system("id", "Id", FieldType::Uuid) },
        system("createdAt", "Creation date", FieldType::DateTime),
        system("updatedAt", "Last update", FieldType::DateTime),
        Field { nullable: true, ..system("deletedAt", "Deleted at", FieldType::DateTime) },
        system("createdBy", "Created by", FieldType::Actor),
        system("updatedBy", "Updated by", FieldType::Actor),
        system("position", "Position", FieldType::Position),
    ]
}

/// The name that an object of a client's begins with.
pub(super) fn name_field() -> Field {
    standard("name", "Name", FieldType::Text)
}

/// What a new workspace has.
pub(super) fn standard_objects() -> Vec<Object> {
    let object = |names: [&str; 4], icon: &str, own: Vec<Field>| Object {
        id: super::value::new_uuid(),
        singular: names[0].to_owned(),
        plural: names[1].to_owned(),
        label_singular: names[2].to_owned(),
        label_plural: names[3].to_owned(),
        description: None,
        icon: Some(icon.to_owned()),
        custom: false,
        fields: base_fields().into_iter().chain(own).collect(),
    };
    let mut company = object(
        ["company", "companies", "Company", "Companies"],
        "IconBuildingSkyscraper",
        vec![
            standard("name", "Name", FieldType::Text),
            Field { unique: true, ..standard("domainName", "Domain Name", FieldType::Links) },
            standard("address", "Address", FieldType::Address),
            standard("linkedinLink", "Linkedin", FieldType::Links),
            standard("annualRevenue", "ARR", FieldType::Currency),
            standard("accountOwnerId", "Account Owner Id", FieldType::Uuid),
        ],
    );
    let mut person = object(
        ["person", "people", "Person", "People"],
        "IconUser",
        vec![
            standard("name", "Name", FieldType::FullName),
            Field { unique: true, ..standard("emails", "Emails", FieldType::Emails) },
            standard("phones", "Phones", FieldType::Phones),
            standard("linkedinLink", "Linkedin", FieldType::Links),
            standard("jobTitle", "Job Title", FieldType::Text),
            standard("avatarUrl", "Avatar", FieldType::Text),
        ],
    );
    let (to_company, to_people) = relation_fields(
        ("company", "Company", company.id.as_str()),
        ("people", "People", person.id.as_str()),
    );
    person.fields.push(to_company);
    company.fields.push(to_people);
    vec![person, company]
}

/// Both sides of a relation: the one with the column, and the other. Each is named, labelled, and leads to an object's id.
pub(super) fn relation_fields(one: (&str, &str, &str), many: (&str, &str, &str)) -> (Field, Field) {
    let side = |(name, label, target): (&str, &str, &str), to_one: bool, target_field: &str| Field {
        relation: Some(Relation { to_one, target: target.to_owned(), target_field: target_field.to_owned() }),
        ..standard(name, label, FieldType::Relation)
    };
    (side(one, true, many.0), side(many, false, one.0))
}
