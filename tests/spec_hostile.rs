//! Whatever stands in a manifest, compiling answers: it never panics, hangs or takes memory without bound, every place it names
//! is in the file, and rendering works.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use trueup::model::Severity;
use trueup::spec::{Source, compile_all, render};

fn good() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/spec/good");
    let files = ["contacts.yaml", "mappings.yml", "stores.yaml"];
    files.map(|file| std::fs::read_to_string(folder.join(file)).unwrap()).join("\n---\n")
}

fn side_files() -> BTreeMap<String, String> {
    BTreeMap::from([("llm_context.schema.json".to_owned(), "{}".to_owned())])
}

/// Compiles, and checks what must hold of any answer.
fn survives(text: &str) -> bool {
    let source = Source { file: "m.yaml".to_owned(), text: text.to_owned() };
    let sources = [source];
    match compile_all(Path::new("."), &sources, &side_files()) {
        Ok(compiled) => {
            assert!(compiled.warnings.iter().all(|found| found.severity == Severity::Warning));
            let again = Source { file: "e.yaml".to_owned(), text: compiled.expanded.clone() };
            let second = compile_all(Path::new("."), &[again], &side_files());
            let second = second.unwrap_or_else(|found| panic!("{found:?}\n{}", compiled.expanded));
            assert_eq!(second.spec.sha, compiled.spec.sha, "{}", compiled.expanded);
            true
        }
        Err(found) => {
            assert!(found.iter().any(|found| found.severity == Severity::Error));
            for place in found.iter().filter_map(|found| found.place.as_ref()) {
                let (from, to) = place.span;
                assert!(from <= to && to <= text.len(), "{place:?}");
                assert!(text.is_char_boundary(from) && text.is_char_boundary(to), "{place:?}");
                assert!(place.line >= 1 && place.column >= 1);
                assert!(place.line <= text.split(['\n', '\r']).count() + 1, "{place:?}");
            }
            let _ = render(&found, &sources, true);
            false
        }
    }
}

#[test]
fn the_good_one_survives() {
    assert!(survives(&good()));
}

#[test]
fn every_cut_survives() {
    let text = good();
    let all: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    for at in all.into_iter().step_by(23) {
        survives(&text[..at]);
    }
}

#[test]
fn every_line_left_out_survives() {
    let text = good();
    let lines: Vec<&str> = text.lines().collect();
    for skipped in 0..lines.len() {
        let rest: Vec<&str> =
            lines.iter().enumerate().filter(|(at, _)| *at != skipped).map(|(_, line)| *line).collect();
        survives(&rest.join("\n"));
    }
}

#[test]
fn bombs_are_refused_soon() {
    let begin = Instant::now();
    let head = "apiVersion: trueup/v1\nkind: Store\nmetadata: {name: a}\nspec: ";
    let mut laughs = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (this, last) in ('b'..='j').zip('a'..='i') {
        let _ = writeln!(laughs, "{this}: &{this} [{}]", vec![format!("*{last}"); 10].join(", "));
    }
    let bombs = [
        laughs,
        format!("{head}{}", "[".repeat(100_000)),
        format!("{head}{}", "{a: ".repeat(50_000)),
        format!("{head}\n{}", (0..2000).map(|at| " ".repeat(at + 2) + "a:\n").collect::<String>()),
        format!("{head}{}", "- ".repeat(50_000)),
        format!("{head}{{a: {}}}", "9".repeat(100_000)),
        format!(
            "{head}{{{}}}",
            (0..20_000).map(|at| "k".to_owned() + &at.to_string() + ": 1, ").collect::<String>()
        ),
        "a".repeat(9 << 20),
        "---\n".repeat(100_000),
        "? ".repeat(50_000),
        "\u{0}\u{feff}\u{85}\u{2028}".repeat(1000),
        "&a".repeat(10_000),
        "!".repeat(10_000),
        "%YAML 9.9\n---\na: b".to_owned(),
    ];
    for bomb in &bombs {
        let begin = Instant::now();
        assert!(!survives(bomb), "{}", &bomb[..80.min(bomb.len())]);
        let took = begin.elapsed();
        assert!(
            took < Duration::from_secs(20),
            "{took:?} for {:?}",
            bomb.chars().take(80).collect::<String>()
        );
    }
    assert!(begin.elapsed() < Duration::from_secs(90));
}

/// Patterns whose compiling would take the memory of the machine are refused by their size.
#[test]
fn a_pattern_may_not_be_huge() {
    let text = good().replace("^{category_code}[0-9]+_[A-Z0-9_]+$", "^((a{1000}){1000}){1000}$");
    assert!(!survives(&text));
}

/// Words that mean something in manifests, so that mutations get past the first check.
const WORDS: &[&str] = &[
    "same",
    "none",
    "null",
    "~",
    "true",
    "no",
    "{}",
    "[]",
    "string",
    "json",
    "string_list",
    "timestamp",
    "int64",
    "contacts",
    "businesses",
    "contact_id",
    "category_code",
    "canonical",
    "local",
    "\"*\"",
    "0",
    "-1",
    "1e400",
    "''",
    "${env:A}",
    "${",
    "{a: b}",
    "[a, b]",
    "&a x",
    "*a",
    "!!str 1",
    "<<",
    "|\n  x",
    ">",
    "\t",
    "\u{feff}",
    "ü",
    "\u{0}",
    "10%",
    "5m",
    "99999999999999999999",
    "name(canonical_name)",
    "join(a,a)",
    "[[a]]",
    "public.x",
    "{in: []}",
    "2020-01-01",
    "struct",
    "columns",
    "sqlite",
    "twenty",
    "memory",
    "record",
    "cascade",
    "to-store",
    "json-text",
    "unix-millis",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn any_text_survives(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn any_yaml_like_text_survives(text in "[-a-c:{}\\[\\],&*!|>'\"%@`#? \n\t~0-9.$<]{0,200}") {
        survives(&text);
    }

    #[test]
    fn changed_bytes_survive(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..6),
    ) {
        let mut bytes = good().into_bytes();
        for (at, byte, how) in changes {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => _ = bytes.remove(at),
            }
        }
        survives(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn changed_words_survive(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), prop::sample::select(WORDS)), 1..4),
    ) {
        let mut text = good();
        for (at, word) in changes {
            // A word of the text: letters, digits and what names are made of.
            let mut words: Vec<(usize, usize)> = Vec::new();
            let mut begin = None;
            for (at, c) in text.char_indices() {
                match (c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '%'), begin) {
                    (true, None) => begin = Some(at),
                    (false, Some(from)) => {
                        words.push((from, at));
                        begin = None;
                    }
                    _ => {}
                }
            }
            let (from, to) = words[at.index(words.len())];
            text.replace_range(from..to, word);
        }
        survives(&text);
    }

    #[test]
    fn swapped_lines_survive(a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
        let text = good();
        let mut lines: Vec<&str> = text.lines().collect();
        let (a, b) = (a.index(lines.len()), b.index(lines.len()));
        lines.swap(a, b);
        survives(&lines.join("\n"));
    }
}
