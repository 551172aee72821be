//! JSON text turned directly into canonical text, without building values: nearly every row that is read and remembered has some.

/// Texts nested more deeply are parsed into values instead, which has limits of its own.
const DEEPEST: usize = 100;
/// So are texts with longer numbers.
const LONGEST_NUMBER: usize = 300;

/// The canonical text of a JSON text; none where it has to be parsed into values: what is no JSON, and what is rare, such as exponents
/// and names that stand twice or have escapes.
pub(super) fn canonical_text(text: &str) -> Option<String> {
    let mut pen = Pen { text, at: 0, out: String::with_capacity(text.len()) };
    pen.value(0)?;
    pen.skip_space();
    (pen.at == text.len()).then_some(pen.out)
}

/// Reads and writes.
struct Pen<'t> {
    text: &'t str,
    at: usize,
    out: String,
}

/// Where a member of an object stands in the output: its name (between the quotes), and the whole of it.
struct Member {
    name: std::ops::Range<usize>,
    whole: std::ops::Range<usize>,
}

impl<'t> Pen<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes this byte, after space.
    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        self.accept(byte).then_some(())
    }

    fn accept(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn copy(&mut self, from: usize) -> Option<&'t str> {
        let piece = self.text.get(from..self.at)?;
        self.out.push_str(piece);
        Some(piece)
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        self.skip_space();
        match self.peek()? {
            b'{' if depth < DEEPEST => self.object(depth),
            b'[' if depth < DEEPEST => self.array(depth),
            b'"' => self.string(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            b'-' | b'0'..=b'9' => self.number(),
            _ => None,
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        if !self.text.get(self.at..)?.starts_with(word) {
            return None;
        }
        self.at += word.len();
        self.out.push_str(word);
        Some(())
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.expect(b'[')?;
        self.out.push('[');
        self.skip_space();
        if !self.accept(b']') {
            loop {
                self.value(depth + 1)?;
                self.skip_space();
                if self.accept(b']') {
                    break;
                }
                self.expect(b',')?;
                self.out.push(',');
            }
        }
        self.out.push(']');
        Some(())
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.expect(b'{')?;
        self.out.push('{');
        let begin = self.out.len();
        let mut members: Vec<Member> = Vec::new();
        self.skip_space();
        if !self.accept(b'}') {
            loop {
                members.push(self.member(depth)?);
                self.skip_space();
                if self.accept(b'}') {
                    break;
                }
                self.expect(b',')?;
                self.out.push(',');
            }
        }
        let ascending = |out: &str, members: &[Member]| {
            members.windows(2).all(|two| match two {
                [one, next] => out.get(one.name.clone()) < out.get(next.name.clone()),
                _ => true,
            })
        };
        if !ascending(&self.out, &members) {
            members.sort_by(|a, b| self.out.get(a.name.clone()).cmp(&self.out.get(b.name.clone())));
            if !ascending(&self.out, &members) {
                return None;
            }
            let mut sorted = String::with_capacity(self.out.len() - begin);
            for member in &members {
                if !sorted.is_empty() {
                    sorted.push(',');
                }
                sorted.push_str(self.out.get(member.whole.clone())?);
            }
            self.out.truncate(begin);
            self.out.push_str(&sorted);
        }
        self.out.push('}');
        Some(())
    }

    fn member(&mut self, depth: usize) -> Option<Member> {
        self.skip_space();
        let begin = self.out.len();
        let from = self.at;
        let end = self.plain_string()?;
        self.at = end;
        let name = self.copy(from)?;
        // The parser takes an object of such a name for a number.
        if name.starts_with("\"$serde_json") {
            return None;
        }
        let name = begin + 1..self.out.len() - 1;
        self.expect(b':')?;
        self.out.push(':');
        self.value(depth + 1)?;
        Some(Member { name, whole: begin..self.out.len() })
    }

    /// Where the string that begins here ends; none where it has escapes, or is none.
    fn plain_string(&self) -> Option<usize> {
        let rest = self.text.as_bytes().get(self.at..)?.strip_prefix(b"\"")?;
        let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))?;
        (rest.get(end) == Some(&b'"')).then_some(self.at + end + 2)
    }

    fn string(&mut self) -> Option<()> {
        let from = self.at;
        if let Some(end) = self.plain_string() {
            self.at = end;
            self.copy(from)?;
            return Some(());
        }
        // With escapes, of which there is more than one way to write each.
        let rest = self.text.as_bytes().get(from + 1..)?;
        let mut escaped = false;
        let end = rest.iter().position(|byte| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        })?;
        self.at = from + end + 2;
        let content: String = serde_json::from_str(self.text.get(from..self.at)?).ok()?;
        self.out.push_str(&serde_json::to_string(&content).ok()?);
        Some(())
    }

    fn digits(&mut self) -> usize {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - from
    }

    fn number(&mut self) -> Option<()> {
        let from = self.at;
        self.accept(b'-');
        let leading_zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (leading_zero && whole > 1) {
            return None;
        }
        let fraction = self.accept(b'.');
        if fraction && self.digits() == 0 {
            return None;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) || (fraction && self.at - from > LONGEST_NUMBER) {
            return None;
        }
        let mut number = self.text.get(from..self.at)?;
        if fraction {
            number = number.trim_end_matches('0').trim_end_matches('.');
        }
        self.out.push_str(if number == "-0" { "0" } else { number });
        Some(())
    }
}
