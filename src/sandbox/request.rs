//! A call as it came: path, query and body, taken apart.

use serde_json::Value;

use super::answer::Refusal;

/// A call.
#[derive(Debug)]
pub(super) struct Call {
    pub method: String,
    /// Percent-decoded.
    pub path: String,
    pub query: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub is_json: bool,
}

impl Call {
    /// A call without a body, from its method and its path with query.
    pub(super) fn new(method: &str, target: &str) -> Result<Self, Refusal> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(name, true)?, decoded(value, true)?))
        });
        Ok(Self {
            method: method.to_owned(),
            path: decoded(path, false)?,
            query: pairs.collect::<Result<_, Refusal>>()?,
            body: Vec::new(),
            is_json: false,
        })
    }

    /// A parameter of the query.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that is `true` or `false`; absent is false.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.query(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Refusal::bad(format!("{name}: true or false is wanted"))),
        }
    }

    /// Refuses parameters other than these, and repeated ones.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Refusal> {
        for (at, (name, _)) in self.query.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let message = format!("the parameter \"{name}\" of {} {}", self.method, self.path);
                return Err(Refusal::not_covered(message, format!("there are: {}", known.join(", "))));
            }
            if self.query[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(Refusal::bad(format!("the parameter \"{name}\" is given twice")));
            }
        }
        Ok(())
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Value, Refusal> {
        if !self.is_json {
            return Err(Refusal::bad("A body needs the header Content-Type: application/json"));
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| Refusal::bad(format!("The body is not JSON: {error}")))
    }
}

/// Percent-decoded text; in a query, `+` is a space.
fn decoded(text: &str, in_query: bool) -> Result<String, Refusal> {
    let bad = || Refusal::bad("The URL is not percent-encoded UTF-8");
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'%' => {
                let digits = text.get(at + 1..at + 3).ok_or_else(bad)?;
                plain.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
                at += 2;
            }
            b'+' if in_query => plain.push(b' '),
            other => plain.push(*other),
        }
        at += 1;
    }
    String::from_utf8(plain).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_taken_apart() {
        let call = Call::new("GET", "/rest/people?filter=a%5Beq%5D:%22b+c%22&limit=5&flag").unwrap();
        assert_eq!(call.path, "/rest/people");
        assert_eq!(call.query("filter"), Some("a[eq]:\"b c\""));
        assert_eq!(call.query("limit"), Some("5"));
        assert_eq!(call.query("flag"), Some(""));
        assert!(call.only(&["filter", "limit"]).is_err());
        assert!(Call::new("GET", "/rest/%zz").is_err());
        assert!(Call::new("GET", "/rest/%").is_err());
        assert!(Call::new("GET", "/rest/%ff").is_err());
        assert!(Call::new("GET", "/rest?a=1&a=2").unwrap().only(&["a"]).is_err());
    }
}
