//! What the source has to look like, whoever writes it: pure folders stay pure, only the command line prints, modules say what
//! they are for and fit a reader's head, and nothing in the code knows anybody's data.
//!
//! Each rule is the absence of something, so it is looked for as text. Comments, strings and tests are blanked out first,
//! where they do not count.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Folders above the line: nothing in them does input or output, knows the time, or depends on chance.
const PURE: [&str; 8] = [
    "src/model",
    "src/spec",
    "src/identity",
    "src/resolve",
    "src/diff",
    "src/plan",
    "src/prompt",
    "src/reconcile",
];

/// What a pure folder has no use for, and what to do instead.
const IMPURE: [(&[&str], &str); 8] = [
    (
        &["tokio", "sqlx", "rusqlite", "reqwest", "axum", "futures_util", "tokio_util"],
        "adapters and the shell do that; return an effect",
    ),
    (&["async fn", "async move", ".await"], "the core does not wait; return an effect and take its event"),
    (
        &["std::fs", "std::io", "std::env", "std::process"],
        "take what was read as an argument, as `spec::compile` takes sources",
    ),
    (
        &["std::thread", "TcpStream", "TcpListener", "UdpSocket"],
        "adapters and the shell do that; return an effect",
    ),
    (
        &["Instant", "SystemTime", "Timestamp::now", "Zoned::now"],
        "take the time as an argument: every pass has one `now`",
    ),
    (&["rand", "getrandom", "RandomState"], "take ids and seeds as arguments, or make ids from content"),
    (&["tracing", "prometheus"], "return data; `telemetry` tells about it"),
    (
        &[
            "crate::store",
            "crate::state",
            "crate::apply",
            "crate::controller",
            "crate::telemetry",
            "crate::http",
            "crate::cli",
        ],
        "the core does not know what is below it; move what both need to `model`",
    ),
];

/// Where hash tables are used in pure folders, and why their order shows nowhere.
const HASHED: [(&str, &str); 5] = [
    ("src/spec/yaml.rs", "where in a list a key stands; the list itself keeps the order"),
    ("src/resolve/validate.rs", "compiled patterns by their text; only looked up"),
    ("src/plan/homes.rs", "where records and elements are; only looked up"),
    ("src/plan/build.rs", "keys that live; only looked up"),
    ("src/plan/unique.rs", "holders of unique values; what is found among them is put in order"),
];

/// Who talks to the terminal: the command line, and the log, which goes to standard error.
const SPEAKERS: [&str; 2] = ["src/cli/", "src/telemetry/log.rs"];

/// Who must not know whom, and why. What of `crate` the sandbox uses is named in full, so that it shows.
const STRANGERS: [(&str, &[&str], &str); 2] = [
    (
        "src/sandbox/",
        &["crate::store", "super::store", "crate::{", "crate::model", "crate::spec"],
        "a server and its client that share code share mistakes; write it from what was measured",
    ),
    ("src/store/", &["crate::sandbox", "sandbox"], "a store knows the real server alone"),
];

/// The longest file. Longer ones are split by stage.
const LONGEST_LINES: usize = 600;

/// Names from the manifests that trueup was first written for, and from its trial data. What the code knows of them is a mistake:
/// they are YAML.
const DATA_NAMES: [&str; 24] = [
    "contacts_master",
    "contact_identifiers",
    "people_businesses",
    "businesses",
    "contacts",
    "contact_id",
    "business_id",
    "identifier_id",
    "identifier_type",
    "identifier_value",
    "canonical_name",
    "name_normalized",
    "category_code",
    "subcategory_code",
    "llm_context",
    "job_title",
    "birthday",
    "term_start",
    "term_end",
    "office_address",
    "social_username",
    "bioguide",
    "congress",
    "legislator",
];

/// The demo brings manifests and records of its own, as text.
const DEMO: &str = "src/cli/demo";

/// Something that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    file: String,
    line: usize,
    what: String,
}

#[test]
fn the_source_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut faults = Vec::new();
    let mut files = Vec::new();
    for path in rust_files(&root.join("src")) {
        let file = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
        let text = std::fs::read_to_string(&path).expect("a readable file");
        faults.extend(check(&file, &text));
        files.push((file, text));
    }
    assert!(files.len() > 50, "src was not found: {files:?}");
    for folder in PURE {
        assert!(
            files.iter().any(|(file, _)| file.starts_with(folder)),
            "`{folder}` is gone; the list of pure folders is stale"
        );
    }
    faults.extend(stale(&files));
    assert!(faults.is_empty(), "{}", page(&faults));
}

fn page(faults: &[Fault]) -> String {
    let mut page = format!("{} to tidy:\n", faults.len());
    for fault in faults {
        writeln!(page, "{}:{}: {}", fault.file, fault.line, fault.what).expect("a string takes it");
    }
    page
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Exceptions that nothing needs any more.
fn stale(files: &[(String, String)]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let text_of =
        |name: &str| files.iter().find(|(file, _)| file == name).map_or("", |(_, text)| text.as_str());
    for (file, _) in HASHED {
        if !text_of(file).contains("Hash") {
            let what = "no longer needs its place in HASHED of tests/tidy.rs; take it out".to_owned();
            faults.push(Fault { file: file.to_owned(), line: 1, what });
        }
    }
    faults
}

/// Every rule, on one file.
fn check(file: &str, text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut add = |line: usize, what: String| faults.push(Fault { file: file.to_owned(), line, what });
    if !text.starts_with("//!") {
        add(1, "a file begins with `//!` and what it is for".to_owned());
    }
    let lines = text.lines().count();
    if lines > LONGEST_LINES {
        add(lines, format!("{lines} lines, of {LONGEST_LINES} at most; split it by stage"));
    }
    for (at, line) in text.lines().enumerate() {
        for mark in ["TODO", "FIXME", "XXX"] {
            if has_word(line, mark) {
                add(at + 1, format!("`{mark}`: do it, or file it as an issue"));
            }
        }
    }
    let is_test = ["/tests.rs", "_tests.rs", "/fixture.rs"].iter().any(|end| file.ends_with(end));
    let Shown { code, strings } = shown(text);
    for (at, line) in code.lines().enumerate() {
        for mark in ["todo!", "unimplemented!", "dbg!"] {
            if has_word(line, mark) {
                add(at + 1, format!("`{mark}` is not finished code"));
            }
        }
        if is_test {
            continue;
        }
        let speaks = ["print!", "println!", "eprint!", "eprintln!", "stdout", "stderr"];
        if let Some(word) = speaks.iter().find(|word| has_word(line, word))
            && !SPEAKERS.iter().any(|speaker| file.starts_with(speaker))
        {
            add(at + 1, format!("`{word}`: only src/cli talks to the terminal"));
        }
        for (folder, words, why) in STRANGERS {
            for word in words.iter().filter(|word| file.starts_with(folder) && has_word(line, word)) {
                add(at + 1, format!("`{word}` in {folder}: {why}"));
            }
        }
        if PURE.iter().any(|folder| file.starts_with(&format!("{folder}/"))) {
            for (word, instead) in impure(file, line) {
                add(at + 1, format!("`{word}` in a pure folder: {instead}"));
            }
        }
    }
    if !is_test && !file.starts_with(DEMO) {
        for (at, line) in strings.lines().enumerate() {
            for name in DATA_NAMES.iter().filter(|name| has_word(line, name)) {
                add(at + 1, format!("`{name}` is a name from somebody's data; the code knows none"));
            }
        }
    }
    faults
}

fn impure(file: &str, line: &str) -> Vec<(&'static str, &'static str)> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for (words, instead) in IMPURE {
        found.extend(words.iter().filter(|word| has_word(line, word)).map(|word| (*word, instead)));
    }
    // An address is plain data.
    if has_word(line, "std::net") && !line.contains("std::net::SocketAddr") {
        found.push(("std::net", "adapters and the shell do that; return an effect"));
    }
    if !HASHED.iter().any(|(name, _)| *name == file) {
        let hashed = ["HashMap", "HashSet"].into_iter().filter(|word| has_word(line, word));
        found.extend(hashed.map(|word| {
            (word, "its order changes from run to run: take the BTree one, or list the file in HASHED with the reason")
        }));
    }
    found
}

/// Whether a line has this word, and not as a part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let part = |char: char| char.is_alphanumeric() || char == '_';
    let (begins, ends) = (word.starts_with(part), word.ends_with(part));
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(part);
        let after = line[at + word.len()..].chars().next().is_some_and(part);
        !(begins && before || ends && after)
    })
}

/// A file in two forms, line by line as long as it is.
struct Shown {
    /// Without comments, strings and test modules.
    code: String,
    /// Without comments and test modules.
    strings: String,
}

/// Blanks comments, strings and test modules out.
fn shown(text: &str) -> Shown {
    let (mut code, mut strings) = (String::new(), String::new());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (length, what) = token(rest, code.chars().next_back());
        let (piece, after) = rest.split_at(length.max(first.len_utf8()));
        code.push_str(&if what == Token::Code { piece.to_owned() } else { blank(piece) });
        strings.push_str(&if what == Token::Comment { blank(piece) } else { piece.to_owned() });
        rest = after;
    }
    for (from, to) in test_modules(&code) {
        let (blank_code, blank_strings) = (blank(&code[from..to]), blank(&strings[from..to]));
        code.replace_range(from..to, &blank_code);
        strings.replace_range(from..to, &blank_strings);
    }
    Shown { code, strings }
}

/// As many bytes and line ends, and nothing else: places stay what they were.
fn blank(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

#[derive(PartialEq, Eq)]
enum Token {
    Code,
    Comment,
    Text,
}

/// The token that a text begins with, and its length in bytes.
fn token(rest: &str, before: Option<char>) -> (usize, Token) {
    let until =
        |end: &str, from: usize| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
    let in_word = before.is_some_and(|char| char.is_alphanumeric() || char == '_');
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), Token::Comment);
    }
    if rest.starts_with("/*") {
        return (until("*/", 2), Token::Comment);
    }
    if let Some(raw) = rest.strip_prefix('r').filter(|_| !in_word || before == Some('b')) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            return (until(&format!("\"{}", "#".repeat(hashes)), 2 + hashes), Token::Text);
        }
    }
    let quoted = |quote: char| {
        let mut escaped = false;
        for (at, char) in rest.char_indices().skip(1) {
            match char {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if char == quote => return at + 1,
                _ => {}
            }
        }
        rest.len()
    };
    if rest.starts_with('"') {
        return (quoted('"'), Token::Text);
    }
    if rest.starts_with('\'') {
        // A lifetime has no second quote after one character.
        let mut chars = rest.chars().skip(1);
        let is_char = matches!((chars.next(), chars.next()), (Some('\\'), _) | (Some(_), Some('\'')));
        return if is_char { (quoted('\''), Token::Text) } else { (1, Token::Code) };
    }
    (0, Token::Code)
}

/// Where test modules begin and end.
fn test_modules(code: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (at, mark) in code.match_indices("#[cfg(test)]") {
        let after = &code[at + mark.len()..];
        let (Some(open), stop) = (after.find('{'), after.find(';').unwrap_or(usize::MAX)) else { continue };
        if !after.trim_start().starts_with("mod ") || stop < open {
            continue;
        }
        let mut depth = 0;
        let end = after.char_indices().skip_while(|(place, _)| *place < open).find_map(|(place, char)| {
            depth += i32::from(char == '{') - i32::from(char == '}');
            (depth == 0).then_some(place + 1)
        });
        found.push((at, at + mark.len() + end.unwrap_or(after.len())));
    }
    found
}

/// What is found, as `line: word`.
fn found(file: &str, text: &str) -> Vec<String> {
    let word = |what: &str| what.split('`').nth(1).unwrap_or(what).to_owned();
    check(file, text).iter().map(|fault| format!("{}: {}", fault.line, word(&fault.what))).collect()
}

#[test]
fn a_planted_line_is_found() {
    for (planted, word) in [
        ("use tokio::sync::mpsc;", "tokio"),
        ("let rows = store.read().await;", ".await"),
        ("async fn look() {}", "async fn"),
        ("let text = std::fs::read_to_string(path);", "std::fs"),
        ("use std::net::TcpStream;", "std::net"),
        ("let now = jiff::Timestamp::now();", "Timestamp::now"),
        ("let began = std::time::Instant::now();", "Instant"),
        ("let id = rand::random();", "rand"),
        ("use std::collections::HashMap;", "HashMap"),
        ("use crate::store::Store;", "crate::store"),
        ("tracing::info!(\"planned\");", "tracing"),
    ] {
        let text = format!("//! What for.\n\n{planted}\n");
        assert!(found("src/resolve/planted.rs", &text).contains(&format!("3: {word}")), "{planted}");
        if word != "HashMap" && word != "tracing" {
            assert_eq!(found("src/apply/planted.rs", &text), [""; 0], "below the line it is fine: {planted}");
        }
    }
    let planted = |line: &str| format!("//! What for.\n\n{line}\n");
    assert_eq!(found("src/http/planted.rs", &planted("println!(\"x\");")), ["3: println!"]);
    assert_eq!(found("src/cli/planted.rs", &planted("println!(\"x\");")), [""; 0]);
    assert_eq!(
        found("src/store/planted.rs", &planted("if table == \"contacts_master\" {}")),
        ["3: contacts_master"]
    );
    assert_eq!(found("src/cli/demo/planted.rs", &planted("let yaml = \"canonical_name: string\";")), [""; 0]);
    let store = planted("use crate::store::Store;");
    assert_eq!(found("src/sandbox/planted.rs", &store), ["3: crate::store"]);
    assert_eq!(found("src/sandbox/value/planted.rs", &planted("use crate::{cli, store};")), ["3: crate::{"]);
    let sandbox = planted("let it = crate::sandbox::Sandbox::start(options);");
    assert_eq!(found("src/store/twenty/planted.rs", &sandbox), ["3: crate::sandbox", "3: sandbox"]);
    assert_eq!(found("src/cli/planted.rs", &sandbox), [""; 0]);
    assert_eq!(found("src/store/planted.rs", &planted("fn later() { todo!() }")), ["3: todo!"]);
    assert_eq!(found("src/store/planted.rs", &planted("// TODO: later")), ["3: TODO"]);
    assert_eq!(check("src/store/planted.rs", "use std::fmt;\n")[0].line, 1, "no `//!`");
    let long = planted(&"fn one() {}\n".repeat(LONGEST_LINES));
    assert!(check("src/store/planted.rs", &long)[0].what.contains("lines"));
}

#[test]
fn comments_strings_and_tests_are_not_code() {
    let text = r##"//! Not tokio, and not `std::fs`.

/// For contacts and their canonical_name.
fn fine<'a>(text: &'a str) -> &'a str {
    let _ = ('"', b'x', '\'', "say \" tokio", r#"a "raw" tokio"#);
    /* println!("no") */
    text // std::fs
}

#[cfg(test)]
mod tests {
    use std::fs;
    fn name() -> &'static str { "contacts { tokio" }
}

use std::env;
"##;
    assert_eq!(found("src/model/planted.rs", text), ["16: std::env"]);
}
