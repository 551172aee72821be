//! Keeping secrets out of what is shown: a manifest should only refer to them, and one that does not must not leak them
//! through the message that says so.

use std::ops::Range;

/// Names whose values may be secrets.
const NAMES: [&str; 8] =
    ["api_key", "credentials", "webhook_secret", "password", "secret", "token", "url", "private_key"];

/// Whether a field's value may be a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    NAMES.contains(&name.to_ascii_lowercase().as_str())
}

/// A text in which the values of fields that may be secrets are starred out, of the same length in bytes, so that places in
/// it stay true. References to the outside are left as they are. It works on texts that are no YAML as well.
pub(super) fn mask(text: &str) -> String {
    let mut hide: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    // The indentation of the field whose block is being hidden.
    let mut block: Option<usize> = None;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start_matches([' ', '-']).len();
        if let Some(outer) = block {
            if line.trim().is_empty() || indent > outer {
                hide.push(at..at + line.trim_end().len());
                at += line.len();
                continue;
            }
            block = None;
        }
        for value in values_in(line) {
            let shown = line[value.clone()].trim();
            let begins_block = shown.is_empty() || shown.starts_with(['|', '>', '#']);
            if begins_block {
                block = Some(indent);
            } else if !is_reference(shown) {
                hide.push(at + value.start..at + value.end);
                // A quoted or plain text may go on over the next, deeper lines.
                block = Some(indent).filter(|_| value.end >= line.trim_end().len());
            }
        }
        at += line.len();
    }
    starred(text, &hide)
}

/// Where in a line the values of such fields stand.
fn values_in(line: &str) -> Vec<Range<usize>> {
    let lower = line.to_ascii_lowercase();
    let mut found: Vec<Range<usize>> = Vec::new();
    for name in NAMES {
        for (at, _) in lower.match_indices(name) {
            let before = line[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let rest = &line[at + name.len()..];
            let after_name = rest.trim_start_matches(['"', '\'']).trim_start();
            let Some(value) = after_name.strip_prefix(':') else { continue };
            let value = value.trim_start_matches([' ', '\t']);
            let from = line.len() - value.len();
            let end = from + value_end(value);
            found.push(from..end);
        }
    }
    found
}

/// How long a value is: to its closing quote, to the end of a flow map's item, or to the end of the line.
fn value_end(value: &str) -> usize {
    let line = value.trim_end().len();
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value[1..].find(quote).map_or(line, |at| at + 2),
        _ if is_reference(value) => value.find('}').map_or(line, |at| at + 1),
        _ => line,
    }
}

fn is_reference(value: &str) -> bool {
    let inside = value.trim_matches(['"', '\'', ' ', ',', '}']);
    ["${env:", "${file:"].iter().any(|word| inside.starts_with(word)) && inside.matches("${").count() == 1
}

fn starred(text: &str, hide: &[Range<usize>]) -> String {
    let mut hide = hide.to_vec();
    hide.sort_by_key(|range| range.start);
    let mut result = String::with_capacity(text.len());
    let mut ahead = hide.iter().peekable();
    // The byte up to which everything is hidden.
    let mut hidden_to = 0;
    for (at, c) in text.char_indices() {
        while let Some(range) = ahead.next_if(|range| range.start <= at) {
            hidden_to = hidden_to.max(range.end);
        }
        if c != '\n' && c != '\r' && at < hidden_to {
            result.extend(std::iter::repeat_n('*', c.len_utf8()));
        } else {
            result.push(c);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::mask;

    #[test]
    fn hides_values_and_keeps_lengths() {
        let cases = [
            "api_key: hunter2\nnext: line\n",
            "twenty: {url: \"https://u:hunter2@crm.example.com\", api_key: 'hunter2', x: 1}\n",
            "credentials: |\n  {\n   \"hunter2\": 1}\nnext: line\n",
            "credentials: >-\n\n  hunter2\n  hunter2\nnext: 1",
            "\"api_key\" : hunter2 # comment",
            "token: \"a\n  hunter2\"\nnext: 1\n",
            "- password: hunter2ü",
        ];
        for case in cases {
            let masked = mask(case);
            assert!(!masked.contains("hunter2"), "{masked}");
            assert_eq!(masked.len(), case.len());
            assert_eq!(masked.lines().count(), case.lines().count());
        }
    }

    #[test]
    fn shows_references_and_the_rest() {
        let text = "api_key: ${env:KEY}\ncredentials: \"${file:/run/x}\"\nb: {url: \"${env:U}\", c: shown}\nsecretive: shown\n";
        assert_eq!(mask(text), text);
    }
}
