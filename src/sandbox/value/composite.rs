//! Composite fields: which sub-fields a write replaces, and the form of each.
//!
//! Emails: `primaryEmail` is replaced by every write, `additionalEmails` when named. Phones: the other way round. Links: all. Name,
//! address and currency: only what is named.

use rusqlite::types::Value as Sql;
use serde_json::{Map, Value, json};

use super::super::answer::Refusal;
use super::super::schema::{Field, FieldType, Kind};
use super::phone::{self, Phone};
use super::{Cell, list, number, strings, text};

/// What an object of sub-fields puts into the columns.
pub(super) fn cells(field: &Field, parts: &Map<String, Value>) -> Result<Vec<Cell>, Refusal> {
    let named = |part: &str| format!("{}.{part}", field.name);
    match field.kind {
        FieldType::Emails => {
            let given = parts.get("primaryEmail").unwrap_or(&Value::Null);
            let mut cells = vec![(named("primaryEmail"), email(&named("primaryEmail"), given)?)];
            if let Some(more) = parts.get("additionalEmails") {
                let name = named("additionalEmails");
                let items = strings(&name, more)?;
                let items: Result<Vec<Value>, Refusal> =
                    items.iter().map(|item| Ok(Value::String(address(&name, item)?))).collect();
                cells.push((name, list(items?)));
            }
            Ok(cells)
        }
        FieldType::Phones => phones(field, parts),
        FieldType::Links => {
            let part = |part: &str| parts.get(part).unwrap_or(&Value::Null);
            let (label, url, more) =
                (named("primaryLinkLabel"), named("primaryLinkUrl"), named("secondaryLinks"));
            Ok(vec![
                (label.clone(), text(&label, part("primaryLinkLabel"))?),
                (url.clone(), link(&url, part("primaryLinkUrl"))?),
                (more.clone(), list(links(&more, part("secondaryLinks"))?)),
            ])
        }
        FieldType::Actor => Err(Refusal::not_covered(
            format!("writing {}", field.name),
            "leave it out: the server sets it to the key's name",
        )),
        _ => {
            let known = field.kind.parts().iter();
            let written = known.filter_map(|(part, kind)| parts.get(*part).map(|value| (part, kind, value)));
            written
                .map(|(part, kind, value)| {
                    let name = named(part);
                    let cell =
                        if *kind == Kind::Number { number(&name, value)? } else { text(&name, value)? };
                    Ok((name, cell))
                })
                .collect()
        }
    }
}

fn email(name: &str, value: &Value) -> Result<Sql, Refusal> {
    match text(name, value)? {
        Sql::Text(text) => Ok(Sql::Text(address(name, &text)?)),
        other => Ok(other),
    }
}

/// An email address in lower case.
fn address(name: &str, text: &str) -> Result<String, Refusal> {
    let invalid = || Refusal::bad(format!("Invalid email address in {name}"));
    let (local, domain) = text.rsplit_once('@').ok_or_else(invalid)?;
    let local_ok = !local.is_empty()
        && local.split('.').all(|part| !part.is_empty())
        && local.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte));
    let label_ok = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let last = domain.rsplit('.').next().unwrap_or_default();
    let domain_ok = domain.contains('.')
        && domain.split('.').all(label_ok)
        && last.len() >= 2
        && !last.bytes().any(|byte| byte.is_ascii_digit());
    if local_ok && domain_ok { Ok(text.to_ascii_lowercase()) } else { Err(invalid()) }
}

fn phones(field: &Field, parts: &Map<String, Value>) -> Result<Vec<Cell>, Refusal> {
    let names = ["primaryPhoneNumber", "primaryPhoneCountryCode", "primaryPhoneCallingCode"];
    let named = |part: &str| format!("{}.{part}", field.name);
    let mut texts = Vec::new();
    for part in names {
        let given = parts.get(part).map(|value| text(&named(part), value)).transpose()?;
        texts.push(given);
    }
    let part = |at: usize| match &texts[at] {
        Some(Sql::Text(text)) => text.as_str(),
        _ => "",
    };
    let mut cells: Vec<Cell> = Vec::new();
    if part(0).is_empty() {
        // Nothing to parse: what is named is taken as it is, so a number is cleared by clearing all of its parts.
        for (at, given) in texts.iter().enumerate() {
            match given {
                Some(Sql::Null) => cells.push((named(names[at]), Sql::Null)),
                Some(_) => {
                    return Err(Refusal::not_covered(
                        format!("{} without a number", named(names[at])),
                        "write the whole field: number, country code, calling code and additionalPhones",
                    ));
                }
                None => {}
            }
        }
    } else {
        let phone = phone::parse(part(0), part(1), part(2)).map_err(|refusal| refusal.at(&field.name))?;
        for (name, value) in names.iter().zip([phone.number, phone.country, phone.calling_code]) {
            cells.push((named(name), if value.is_empty() { Sql::Null } else { Sql::Text(value) }));
        }
    }
    let name = named("additionalPhones");
    let more = additional(&name, parts.get("additionalPhones").unwrap_or(&Value::Null))?;
    cells.push((name, list(more)));
    Ok(cells)
}

fn additional(name: &str, value: &Value) -> Result<Vec<Value>, Refusal> {
    items(name, value)?
        .iter()
        .map(|item| {
            let [number, country, calling_code] =
                entry(name, item, ["number", "countryCode", "callingCode"])?;
            let Phone { number, country, calling_code } =
                phone::parse(&number, &country, &calling_code).map_err(|refusal| refusal.at(name))?;
            Ok(json!({"number": number, "countryCode": country, "callingCode": calling_code}))
        })
        .collect()
}

/// The entries of a list; null is an empty one.
fn items<'a>(name: &str, value: &'a Value) -> Result<&'a [Value], Refusal> {
    match value {
        Value::Null => Ok(&[]),
        Value::Array(items) => Ok(items),
        _ => Err(Refusal::bad(format!("Invalid value for {name}: a list is wanted"))),
    }
}

/// The texts of an entry of a list; those that are absent or null are empty.
fn entry<const N: usize>(name: &str, item: &Value, keys: [&str; N]) -> Result<[String; N], Refusal> {
    let Value::Object(map) = item else {
        return Err(Refusal::bad(format!(
            "Invalid entry in {name}: an object with {} is wanted",
            keys.join(", ")
        )));
    };
    if let Some(unknown) = map.keys().find(|key| !keys.contains(&key.as_str())) {
        return Err(Refusal::bad(format!("Invalid entry in {name}: it has no \"{unknown}\"")));
    }
    let mut texts = keys.map(|_| String::new());
    for (to, key) in texts.iter_mut().zip(keys) {
        if let Sql::Text(text) = text(&format!("{name}.{key}"), map.get(key).unwrap_or(&Value::Null))? {
            *to = text;
        }
    }
    Ok(texts)
}

fn link(name: &str, value: &Value) -> Result<Sql, Refusal> {
    match text(name, value)? {
        Sql::Text(text) => Ok(Sql::Text(url(name, &text)?)),
        other => Ok(other),
    }
}

fn links(name: &str, value: &Value) -> Result<Vec<Value>, Refusal> {
    items(name, value)?
        .iter()
        .map(|item| {
            let [given, label] = entry(name, item, ["url", "label"])?;
            Ok(json!({"url": url(name, &given)?, "label": label}))
        })
        .collect()
}

/// A URL with its origin in lower case, and without a default port and a slash at its end.
fn url(name: &str, text: &str) -> Result<String, Refusal> {
    let odd = || {
        Refusal::not_covered(
            format!("{name}: an address that is not `http://host/...` or `https://host/...` in plain ASCII"),
            "write it with its scheme, and percent-encoded",
        )
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(odd)?;
    let scheme = scheme.to_ascii_lowercase();
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let mut host = host.to_ascii_lowercase();
    let default = match scheme.as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => return Err(odd()),
    };
    if let Some(bare) = host.strip_suffix(default) {
        host = bare.to_owned();
    }
    let (bare, port) = host.split_once(':').unwrap_or((&host, "1"));
    let host_ok = bare.split('.').all(|label| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    });
    let port_ok = port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port);
    let path_ok = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte));
    if !host_ok || !port_ok || !path_ok {
        return Err(odd());
    }
    let url = format!("{scheme}://{host}{path}");
    Ok(url.strip_suffix('/').unwrap_or(&url).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_case_in_the_origin_a_default_port_and_one_slash() {
        let cases = [
            ("HTTPS://Example.COM/", "https://example.com"),
            ("https://example.com:443/Path/", "https://example.com/Path"),
            ("http://example.com:80", "http://example.com"),
            ("http://example.com:8080/", "http://example.com:8080"),
            ("https://example.com/A?B=C#D", "https://example.com/A?B=C#D"),
        ];
        for (given, kept) in cases {
            assert_eq!(url("x", given).unwrap(), kept);
        }
        let odd = [
            "example.com",
            "ftp://example.com",
            "https://",
            "https://a b.com",
            "https://ex\u{e4}mple.com",
            "https://user@example.com",
            "https://example.com:0",
            "https://example.com/\u{e4}",
            "mailto:a@example.com",
        ];
        for given in odd {
            assert!(url("x", given).is_err(), "{given}");
        }
    }

    #[test]
    fn emails_are_lower_cased_or_refused() {
        assert_eq!(address("x", "Ada.L+x@Example.COM").unwrap(), "ada.l+x@example.com");
        let bad = [
            "",
            "ada",
            "@example.com",
            "ada@",
            "ada@example",
            "a b@example.com",
            " ada@example.com",
            "ada@example.com ",
            "ada@@example.com",
            "a..b@example.com",
            "ada@-example.com",
            "ada@example.c",
            "ada@ex_ample.com",
            "\u{e4}da@example.com",
        ];
        for given in bad {
            assert!(address("x", given).is_err(), "{given}");
        }
    }
}
