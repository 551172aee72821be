//! Texts of stores, made harmless for a prompt.

/// A text as one line in which nothing opens a heading, a fence, a quote, a list or a tag: line ends and other control characters
/// become spaces, invisible ones that hide or turn text go, and what Markdown takes for more than text at the beginning of a
/// line, or anywhere in it, gets a backslash. Ordinary texts stay as they are.
pub fn harmless(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for char in text.chars().filter(|char| !is_hidden(*char)) {
        if char.is_control() || char.is_whitespace() || is_private_use(char) {
            if !plain.ends_with(' ') {
                plain.push(' ');
            }
        } else {
            plain.push(char);
        }
    }
    let plain = plain.trim();
    let mut safe = String::with_capacity(plain.len() + 8);
    if opens_a_block(plain) {
        safe.push('\\');
    }
    let chars: Vec<char> = plain.chars().collect();
    for (at, char) in chars.iter().copied().enumerate() {
        let next = chars.get(at + 1).copied();
        let before = at.checked_sub(1).and_then(|at| chars.get(at)).copied();
        let needs = match char {
            // Runs of these open and close fences; two make a label like the template's own. One alone is but a sign.
            '`' | '~' | '*' | '_' => next == Some(char) || before == Some(char),
            '<' => next.is_some_and(|next| next.is_ascii_alphabetic() || matches!(next, '/' | '!' | '?')),
            _ => false,
        };
        if needs && !safe.ends_with('\\') {
            safe.push('\\');
        }
        safe.push(char);
    }
    safe
}

/// Whether a line that begins so is more to Markdown than a line of text.
fn opens_a_block(line: &str) -> bool {
    let listed = line.starts_with("- ") || line.starts_with("+ ") || line.starts_with("* ");
    let ruled = line.len() > 2 && line.chars().all(|char| matches!(char, '-' | '=' | ' '));
    line.starts_with(['#', '>', '|']) || listed || ruled
}

/// Characters that show nothing and change how the rest is read: direction marks, invisible operators, byte-order marks, tags.
/// Joiners stay, for scripts and pictures need them.
fn is_hidden(char: char) -> bool {
    matches!(
        char,
        '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

fn is_private_use(char: char) -> bool {
    matches!(char, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}')
}

/// How many tokens a language model is likely to make of a text: four characters of ASCII each, and one for every other character.
/// Models differ; this is an estimate.
pub fn tokens(text: &str) -> usize {
    let (ascii, other) = text.chars().fold((0_usize, 0_usize), |(ascii, other), char| {
        if char.is_ascii() { (ascii + 1, other) } else { (ascii, other + 1) }
    });
    ascii.div_ceil(4) + other
}
