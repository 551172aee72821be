//! Every mistake that manifests can have, said with its place and what to do.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use trueup::model::{Diagnostic, Diagnostics, Severity};
use trueup::spec::{Source, compile, render, render_lines};

/// A small set of manifests without a mistake; each case changes one thing in it.
const BASE: &str = r#"apiVersion: trueup/v1
kind: Store
metadata: {name: main}
spec: {canonical: true, sqlite: {path: main.db}}
---
apiVersion: trueup/v1
kind: Store
metadata: {name: other}
spec: {sqlite: {path: other.db}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: people}
spec:
  key: {id: string}
  fields:
    name: {type: string, required: true}
    sort: {derive: name(name)}
    age: {type: int64, range: [0, 150]}
    code: {enum: [A, B]}
    sub: {pattern: "^{code}[0-9]+$"}
    boss: {type: string, references: people}
    note: {type: json, schema: note.json}
    seen: timestamp
  groups: [[code, sub]]
  times: {created: made, updated: changed}
  match: [[name]]
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: calls}
spec:
  key: {call: int64}
  fields:
    person: {type: string, references: {entity: people, on_delete: cascade}}
    kind: {enum: [phone, email]}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: people}
spec:
  entity: people
  stores:
    main: {table: people, fields: {"*": same}, sync: {columns: same}}
    other:
      table: people
      where: {code: A}
      fields: {name: label, age: {column: years, form: text}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: calls}
spec:
  entity: calls
  stores:
    main: {table: calls, fields: {"*": same}, sync: {json-text: meta}}
---
apiVersion: trueup/v1
kind: Controller
metadata: {name: controller}
spec:
  interval: 30s
  guards: {max_deletes: 10%}
"#;

fn side_files() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("note.json".to_owned(), r#"{"type": "object"}"#.to_owned()),
        ("broken.json".to_owned(), "{".to_owned()),
        ("wrong.json".to_owned(), r#"{"type": "objekt"}"#.to_owned()),
        ("remote.json".to_owned(), r#"{"$ref": "https://example.com/schema.json"}"#.to_owned()),
    ])
}

fn diagnose(text: &str) -> Diagnostics {
    let source = Source { file: "m.yaml".to_owned(), text: text.to_owned() };
    match compile(Path::new("."), &[source], &side_files()) {
        Ok((_, warnings)) => warnings,
        Err(found) => found,
    }
}

fn edited(from: &str, to: &str) -> String {
    assert!(BASE.contains(from), "the base has no `{from}`");
    BASE.replacen(from, to, 1)
}

/// What to change, and into what.
const CASES: &[(&str, &str)] = &[
    // Documents.
    (
        "apiVersion: trueup/v1\nkind: Store\nmetadata: {name: main}",
        "apiVersion: trueup/v2\nkind: Store\nmetadata: {name: main}",
    ),
    ("kind: Store\nmetadata: {name: other}", "kind: Stroe\nmetadata: {name: other}"),
    ("kind: Store\nmetadata: {name: other}", "metadata: {name: other}"),
    ("metadata: {name: other}", "metadata: {nam: other}"),
    ("metadata: {name: other}", "metadata: {name: 7}"),
    ("metadata: {name: other}", "metadata: {name: 'my store'}"),
    ("metadata: {name: other}", "metadata: {name: main}"),
    ("metadata: {name: calls}\nspec:\n  key", "metadata: {name: people}\nspec:\n  key"),
    ("metadata: {name: calls}\nspec:\n  entity", "metadata: {name: people}\nspec:\n  entity"),
    (
        "kind: Controller\n",
        "kind: Controller\nmetadata: {name: a}\nspec: {}\n---\napiVersion: trueup/v1\nkind: Controller\n",
    ),
    ("  interval: 30s", "  interval: 30s\n---\n- a list\n---\n# nothing here\n---\njust text"),
    // Stores.
    ("canonical: true, ", ""),
    ("{sqlite: {path: other.db}}", "{canonical: true, sqlite: {path: other.db}}"),
    ("{canonical: true, sqlite", "{canonical: yes, sqlite"),
    ("{canonical: true, sqlite", "{canonical: true, read_only: true, sqlite"),
    ("{sqlite: {path: other.db}}", "{}"),
    ("{sqlite: {path: other.db}}", "{sqlite: {path: other.db}, memory: {}}"),
    ("{sqlite: {path: other.db}}", "{sqlite: {file: other.db}}"),
    ("{sqlite: {path: other.db}}", "{sqlite: other.db}"),
    ("{sqlite: {path: other.db}}", "{sqlite: {path: }}"),
    ("{sqlite: {path: other.db}}", "{sqllite: {path: other.db}}"),
    ("{sqlite: {path: other.db}}", "{sqlite: {path: \"${env:A}/other.db\"}}"),
    ("{sqlite: {path: other.db}}", "{sqlite: {path: \"${vault:A}\"}}"),
    ("{sqlite: {path: other.db}}", "{sqlite: {path: ''}}"),
    ("{sqlite: {path: other.db}}", "{postgres: {url: 'postgres://u:hunter2@db.example.com/x'}}"),
    ("{sqlite: {path: other.db}}", "{bigquery: {project: p, dataset: d, credentials: hunter2}}"),
    ("{sqlite: {path: other.db}}", "{twenty: {url: 'https://crm.example.com', api_key: 12345}}"),
    (
        "{sqlite: {path: other.db}}",
        "{canonical: false, twenty: {url: 'https://crm.example.com', api_key: '${env:KEY}'}}",
    ),
    (
        "{sqlite: {path: other.db}}",
        "{sqlite: {path: o.db}, limits: {max_bytes_per_pass: 2gib, batch_size: 0, calls_per_second: 5}}",
    ),
    // Keys and fields.
    ("key: {id: string}", "key: {}"),
    ("key: {id: string}", "key: {id: strng}"),
    ("key: {id: string}", "key: {id: date}"),
    ("key: {id: string}", "key: {id: string, name: string}"),
    ("key: {id: string}", "key: id"),
    ("  key: {id: string}\n", ""),
    ("seen: timestamp", "seen: timestmp"),
    ("seen: timestamp", "seen: {requird: true}"),
    ("seen: timestamp", "seen: {required: yes, type: timestamp}"),
    ("seen: timestamp", "seen: {unique: true}"),
    ("seen: timestamp", "'last seen': timestamp"),
    ("seen: timestamp", "seen: timestamp\n    seen: date"),
    ("seen: timestamp", "seen: [timestamp]"),
    ("seen: timestamp", "seen:"),
    ("note: {type: json, ", "note: {type: json, unique: true, "),
    ("{enum: [A, B]}", "{enum: [1, true, A, null]}"),
    ("{enum: [A, B]}", "{enum: [A, B, no, A]}"),
    ("{enum: [A, B]}", "{enum: []}"),
    ("{enum: [A, B]}", "{enum: A}"),
    ("{enum: [A, B]}", "{type: bool, enum: [A, B]}"),
    ("^{code}[0-9]+$", "^{cod}[0-9]+$"),
    ("^{code}[0-9]+$", "^{code}[0-9+$"),
    ("^{code}[0-9]+$", "^{sub}[0-9]+$"),
    ("range: [0, 150]", "range: [150, 0]"),
    ("range: [0, 150]", "range: {min: a, max: 1.5}"),
    ("range: [0, 150]", "range: {mni: 0}"),
    ("range: [0, 150]", "range: [0]"),
    ("range: [0, 150]", "range: {}"),
    ("seen: timestamp", "seen: {type: timestamp, range: [2020-01-01, yesterday]}"),
    ("{type: string, required: true}", "{type: string, required: true, range: [0, 1]}"),
    ("schema: note.json", "schema: notes.json"),
    ("schema: note.json", "schema: broken.json"),
    ("schema: note.json", "schema: wrong.json"),
    ("schema: note.json", "schema: remote.json"),
    ("{type: json, schema", "{type: string, schema"),
    // Derived fields.
    ("name(name)", "nmae(name)"),
    ("name(name)", "name(nam)"),
    ("name(name)", "name(name, age)"),
    ("name(name)", "\"name(name, age)\""),
    ("name(name)", "name"),
    ("name(name)", "name(note)"),
    ("name(name)", "name(sort)"),
    ("{type: string, required: true}", "{derive: name(sort)}"),
    ("{derive: name(name)}", "{type: date, derive: name(name)}"),
    ("seen: timestamp", "seen: {type: timestamp, recompute: never}"),
    ("{derive: name(name)}", "{derive: name(name), recompute: sometimes}"),
    // Groups, times, matching, conflicts.
    ("[[code, sub]]", "[[code, subb]]"),
    ("[[code, sub]]", "[[code, sub], [sub, age]]"),
    ("[[code, sub]]", "[[code]]"),
    ("[[code, sub]]", "[code, sub]"),
    ("[[code, sub]]", "[[id, code]]"),
    ("{created: made, updated: changed}", "{created: name, updated: changed}"),
    ("{created: made, updated: changed}", "{created: made, updated: made}"),
    ("{created: made, updated: changed}", "{creatd: made}"),
    ("match: [[name]]", "match: [[nme], [id], []]"),
    ("match: [[name]]", "match: [[calls.phone, name, name], [calls.fax], [cals.phone]]"),
    ("match: [[name]]", "match: [[name]]\n  conflicts: {granularity: recrod, clock_tolerance: 5}"),
    ("match: [[name]]", "match: [[name]]\n  conflicts: {clock_tolerance: soon}\n  deletes: sometimes"),
    ("match: [[name]]", "match: [[name]]\n  conflicts: {granularity: record}"),
    ("match: [[name]]", "match: [[name]]\n  default_region: usa"),
    // References.
    ("references: people}", "references: poeple}"),
    ("references: people}", "references: calls}"),
    ("references: people}", "on_delete: cascade}"),
    ("{entity: people, on_delete: cascade}", "{entity: people, on_delete: casscade}"),
    ("{entity: people, on_delete: cascade}", "{entity: people, on_delete: cascade}, on_delete: ignore"),
    (
        "key: {id: string}\n  fields:\n",
        "key: {id: string}\n  fields:\n    last_call: {type: int64, references: calls}\n",
    ),
    ("key: {id: string}", "key: {id: string, part: string}"),
    // Mappings.
    ("  entity: calls\n", "  entity: cals\n"),
    ("    other:\n", "    othr:\n"),
    ("    main: {table: calls", "    other: {table: calls"),
    ("main: {table: calls", "main: {tabel: calls"),
    ("main: {table: calls", "main: {object: call"),
    ("main: {table: calls", "main: {table: a.b.c"),
    ("main: {table: calls", "main: {table: people"),
    ("main: {table: calls, fields: {\"*\": same}", "main: {table: calls, fields: {\"*\": all}"),
    ("main: {table: calls, fields: {\"*\": same}", "main: {table: calls, fields: {*: same}"),
    ("main: {table: calls, fields: {\"*\": same}", "main: {table: calls, fields: {kind: same}"),
    ("sync: {json-text: meta}", "sync: {json-text: meta, json: meta2}"),
    ("sync: {json-text: meta}", "sync: {struct: meta}"),
    ("sync: {json-text: meta}", "sync: {columns: {version: v, last_updatd: u}}"),
    ("sync: {json-text: meta}", "sync: {columns: {version: v}}"),
    ("sync: {json-text: meta}", "sync: {columns: {last_updated: u}, triggers: true}"),
    ("sync: {json-text: meta}", "sync: {json-text: meta, triggers: often}"),
    ("sync: {json-text: meta}", "sync: meta"),
    (", sync: {json-text: meta}", ""),
    ("sync: {json-text: meta}", "sync: {json-text: kind}"),
    ("{name: label, age", "{nam: label, age"),
    ("{name: label, age", "{name: years, age"),
    ("{name: label, age", "{name: YEARS, age"),
    ("{name: label, age", "{id: years, name: label, age"),
    ("{name: label, age", "{name: a.b, age"),
    ("{name: label, age", "{name: {column: a, path: b}, age"),
    ("{name: label, age", "{name: a..b, age"),
    ("{name: label, age", "{name: 5, age"),
    ("{name: label, age", "{id: none, name: label, age"),
    ("{name: label, age", "{id: {direction: to-store}, name: label, age"),
    ("{name: label, age", "{made: {form: text}, name: label, age"),
    ("{name: label, age", "{code: code, name: label, age"),
    ("form: text", "form: json-text"),
    ("form: text", "form: txt"),
    ("form: text", "direction: backwards"),
    ("main: {table: people, ", "main: {table: people, where: {code: A}, "),
    (
        "main: {table: people, fields: {\"*\": same}",
        "main: {table: people, fields: {\"*\": same, name: none}",
    ),
    ("main: {table: people, fields: {\"*\": same}", "main: {table: people, fields: {\"*\": same, age: none}"),
    (
        "main: {table: people, fields: {\"*\": same}",
        "main: {table: people, fields: {\"*\": same, seen: none}",
    ),
    (
        "main: {table: people, fields: {\"*\": same}",
        "main: {table: people, fields: {\"*\": same, age: {direction: to-store}}",
    ),
    ("where: {code: A}", "where: {cod: A}"),
    ("where: {code: A}", "where: {code: C}"),
    ("where: {code: A}", "where: {age: ten, name: 5, seen: today, note: x}"),
    ("where: {code: A}", "where: {code: {is: A}}"),
    ("where: {code: A}", "where: {code: {in: [A], not: B}}"),
    ("where: {code: A}", "where: {code: {in: []}}"),
    ("where: {code: A}", "leave: remove"),
    ("where: {code: A}", "where: {code: A}\n      leave: go"),
    ("where: {code: A}", "timezone: Europe/Nowhere"),
    ("where: {code: A}", "key: ident\n      embed: {calls: {phone: phones}}"),
    ("where: {code: A}", "key: {idd: ident}"),
    ("where: {code: A}", "key: ident\n      junction: {id: {relation: person}}"),
    // The controller.
    ("interval: 30s", "interval: 30"),
    ("interval: 30s", "interval: 0s\n  lease: 1 hour\n  http: {address: localhost}\n  state: {sqlite: ''}"),
    ("interval: 30s", "intervall: 30s"),
    ("max_deletes: 10%", "max_deletes: 0.1"),
    ("max_deletes: 10%", "max_deletes: 110%, min_records: -1"),
    ("interval: 30s", "triggers: {webhooks: {mian: {secret: '${env:X}'}}, debounce: soon}"),
    ("interval: 30s", "state: {sqlite: '${env:STATE}'}"),
    // YAML.
    ("interval: 30s", "interval: &a 30s\n  lease: *a"),
    ("interval: 30s", "<<: {lease: 1m}"),
    ("interval: 30s", "interval: !duration 30s"),
    ("interval: 30s", "interval: [30s"),
    ("interval: 30s", "\tinterval: 30s"),
    ("interval: 30s", "? [a]\n  : b"),
    ("interval: 30s", "interval: \"30s"),
];

#[test]
fn the_base_has_no_mistake() {
    assert_eq!(render_lines(&diagnose(BASE)), "");
}

#[test]
fn every_mistake_is_named_with_its_place_and_a_way_out() {
    let mut all = String::new();
    for (from, to) in CASES {
        let found = diagnose(&edited(from, to));
        let _ = writeln!(
            all,
            "=== {} ==> {}",
            from.replace('\n', "\\n"),
            to.replace('\n', "\\n").replace("hunter2", "SECRET")
        );
        assert!(!found.is_empty(), "not noticed: {from} => {to}");
        all.push_str(&render_lines(&found));
        for diagnostic in &found {
            assert!(diagnostic.place.is_some(), "{diagnostic:?}");
            assert!(
                !diagnostic.message.contains("hunter2") && !diagnostic.message.contains("12345"),
                "{diagnostic:?}"
            );
        }
    }
    insta::assert_snapshot!("every_mistake", all);
}

#[test]
fn what_a_kind_of_store_cannot_do_is_said() {
    const OTHER: &str = "{sqlite: {path: other.db}}";
    const POSTGRES: &str = "{postgres: {url: '${env:URL}'}}";
    const BIGQUERY: &str = "{bigquery: {project: p, dataset: d}}";
    const TWENTY: &str = "{twenty: {url: 'https://crm.example.com', api_key: '${env:KEY}'}}";
    const TABLE: &str = "table: people\n      where";
    const NAME: &str = "{name: label, age";
    let long = "x".repeat(64);
    let cases = [
        (OTHER, TABLE, "table: sqlite_people\n      where", "are SQLite's own"),
        (POSTGRES, TABLE, "table: pg_catalog.people\n      where", "are Postgres's own"),
        (POSTGRES, NAME, &format!("{{name: {long}, age"), "names of at most 63 bytes"),
        (POSTGRES, NAME, "{id: a.b, name: label, age", "cannot stand inside another column"),
        (BIGQUERY, NAME, "{id: a.b, name: label, age", "cannot stand inside another column"),
        (BIGQUERY, NAME, "{name: 'la`bel', age", "BigQuery has no name `la`bel`"),
        (TWENTY, TABLE, "object: two_people\n      where", "Twenty has no name `two_people`"),
        (TWENTY, NAME, "{name: a.b.c, age", "`a.b.c` leads too deep"),
        (TWENTY, NAME, "{name: given_name, age", "Twenty has no name `given_name`"),
        (
            TWENTY,
            TABLE,
            "table: people\n      sync: {columns: same}\n      where",
            "stands in one text field in Twenty",
        ),
    ];
    for (store, from, to, told) in cases {
        let mut text = edited(OTHER, store).replacen(from, to, 1);
        if store == TWENTY {
            text = text.replacen("table: people\n", "object: person\n", 1);
        }
        let found = diagnose(&text);
        let found = found.iter().find(|found| found.message.contains(told));
        let found = found.unwrap_or_else(|| panic!("{to}: {}", render_lines(&diagnose(&text))));
        assert!(found.place.is_some() && found.hint.is_some(), "{found:?}");
    }
}

/// What looks odd and is right.
#[test]
fn these_are_no_mistakes() {
    let right = [
        ("^{code}[0-9]+$", "^\\\\p{Lu}{2,3}\\\\x{41}{code}$"),
        ("interval: 30s", "interval: \"30s\""),
        ("interval: 30s", "interval: !!str 30s"),
        ("{name: label, age", "{name: {column: a.b}, age"),
        ("where: {code: A}", "where: {code: {not: [A, null]}, age: {in: [1, 2]}, seen: 2026-01-01}"),
        ("range: [0, 150]", "range: {min: 0}"),
        ("{enum: [A, B]}", "{enum: [A, B, \"no\", \"007\", 007]}"),
        (
            "metadata: {name: controller}\nspec:\n  interval: 30s\n  guards: {max_deletes: 10%}",
            "metadata: {name: c}\nspec: {}",
        ),
    ];
    for (from, to) in right {
        let found: Diagnostics = diagnose(&edited(from, to))
            .into_iter()
            .filter(|found| !found.message.contains("twice"))
            .collect();
        assert!(found.is_empty(), "{to}: {}", render_lines(&found));
    }
}

/// Only these are worth a word and no more.
#[test]
fn warnings_do_not_fail() {
    let warned = [
        ("{enum: [A, B]}", "{enum: [A, B, no]}"),
        (
            "main: {table: people, fields: {\"*\": same}",
            "main: {table: people, fields: {\"*\": same, seen: none}",
        ),
        ("{sqlite: {path: other.db}}", "{sqlite: {path: o.db}, limits: {calls_per_second: 5}}"),
    ];
    for (from, to) in warned {
        let found = diagnose(&edited(from, to));
        assert!(found.iter().all(|found| found.severity == Severity::Warning), "{to}: {found:?}");
        assert_eq!(found.len(), 1, "{to}: {found:?}");
    }
}

#[test]
fn rendered_with_the_line_underlined() {
    let cases = [
        ("unknown_field", "seen: timestamp", "seen: {requird: true, type: timestamp}"),
        ("unknown_type", "seen: timestamp", "seen: timestmp"),
        ("unknown_store", "    other:\n", "    othr:\n"),
        ("duplicate_key", "seen: timestamp", "seen: timestamp\n    seen: date"),
        ("missing_field", "entity: calls\n", "entitie: calls\n"),
        ("partial_group", "{name: label, age", "{code: code, name: label, age"),
        ("shared_column", "{name: label, age", "{name: years, age"),
        ("bad_pattern", "^{code}[0-9]+$", "^{code}[0-9+$"),
        ("circle", "{type: string, required: true}", "{derive: name(sort)}"),
        ("not_yaml", "interval: 30s", "interval: [30s"),
        (
            "plain_secret",
            "{sqlite: {path: other.db}}",
            "{twenty: {url: 'https://crm.example.com', api_key: hunter2}}",
        ),
        ("number_for_text", "{enum: [A, B]}", "{enum: [1, B]}"),
        (
            "star_without_quotes",
            "main: {table: calls, fields: {\"*\": same}",
            "main: {table: calls, fields: {*: same}",
        ),
        ("bad_duration", "interval: 30s", "interval: ünlü  # what\r"),
    ];
    for (name, from, to) in cases {
        let source = Source { file: "manifests/all.yaml".to_owned(), text: edited(from, to) };
        let found = compile(Path::new("."), std::slice::from_ref(&source), &side_files()).unwrap_err();
        let text = render(&found, std::slice::from_ref(&source), false);
        assert!(!text.contains("hunter2"), "{text}");
        let coloured = render(&found, &[source], true);
        assert!(coloured.contains("\u{1b}[") && !text.contains("\u{1b}["));
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn types_by_the_names_of_databases_and_documents_run_together_are_known() {
    for (from, to, hint) in [
        ("seen: timestamp", "seen: timestamptz", "did you mean `timestamp`?"),
        ("seen: timestamp", "seen: TEXT", "did you mean `string`?"),
        ("seen: timestamp", "seen: Integer", "did you mean `int64`?"),
        ("---\n", "", "begin another document with a line `---`"),
    ] {
        let source = Source { file: "manifests/all.yaml".to_owned(), text: edited(from, to) };
        let found = compile(Path::new("."), &[source], &side_files()).unwrap_err();
        let told = |found: &Diagnostic| found.hint.as_ref().is_some_and(|told| told.contains(hint));
        assert!(found.iter().any(told), "{to}: {found:?}");
    }
}

#[test]
fn many_mistakes_are_said_at_once() {
    let mut text = BASE.to_owned();
    for (from, to) in [
        ("canonical: true, ", "canonical: on, "),
        ("seen: timestamp", "seen: timestmp"),
        ("sort: {derive: name(name)}", "sort: {derive: nmae(name)}"),
        ("entity: calls", "entity: cals"),
        ("{name: label, age", "{nam: label, age"),
        ("kind: {enum: [phone, email]}", "kind: {enum: [phone, email], range: [1, 2]}"),
        ("interval: 30s", "interval: 30"),
        ("person: {type: string", "person: {type: int64"),
    ] {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    let sources = [
        Source { file: "manifests/all.yaml".to_owned(), text },
        Source { file: "manifests/broken.yaml".to_owned(), text: "kind: Store\n  spec: }\n".to_owned() },
    ];
    let found = compile(Path::new("."), &sources, &side_files()).unwrap_err();
    insta::assert_snapshot!("many_mistakes", render(&found, &sources, false));
}
