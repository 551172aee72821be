//! What people see of fields and objects that are made: words, and pictures that go with them.

use super::objects::capital;

/// Words that are written in capitals.
const CAPITALS: [&str; 8] = ["id", "llm", "ai", "url", "crm", "api", "json", "vat"];

/// The words of a name such as `llmContext` or `people_businesses`, in small letters.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut begins = true;
    for c in name.chars() {
        if c == '_' || c == '-' {
            begins = true;
            continue;
        }
        begins |= c.is_uppercase();
        let small = c.to_lowercase();
        match words.last_mut() {
            Some(word) if !begins => word.extend(small),
            _ => words.push(small.collect()),
        }
        begins = false;
    }
    words
}

/// A name as people read it: `LLM context`, `Contact ID`.
pub(super) fn label(name: &str) -> String {
    let words: Vec<String> = words(name)
        .into_iter()
        .map(|word| if CAPITALS.contains(&word.as_str()) { word.to_uppercase() } else { word })
        .collect();
    capital(&words.join(" "))
}

/// A name as the server takes names: `peopleBusinesses`.
pub(super) fn camel(name: &str) -> String {
    let mut words = words(name).into_iter();
    let first = words.next().unwrap_or_default();
    words.fold(first, |text, word| text + &capital(&word))
}

/// Several of a thing.
pub(super) fn plural(singular: &str) -> String {
    let ends = |end: &str| singular.ends_with(end);
    if ends("y") && !["ay", "ey", "oy", "uy"].iter().any(|end| ends(end)) {
        return format!("{}ies", &singular[..singular.len() - 1]);
    }
    let hisses = ["s", "x", "z", "ch", "sh"].iter().any(|end| ends(end));
    format!("{singular}{}", if hisses { "es" } else { "s" })
}

/// A picture for a field.
pub(super) fn icon(name: &str, ty: &str) -> &'static str {
    let words = words(name);
    let known = words.iter().rev().find_map(|word| {
        Some(match word.as_str() {
            "id" | "key" => "IconKey",
            "name" => "IconUser",
            "category" => "IconCategory",
            "subcategory" => "IconCategory2",
            "relationship" | "relation" => "IconHeartHandshake",
            "notes" | "note" => "IconNotes",
            "tags" | "tag" => "IconTags",
            "llm" | "context" => "IconFileText",
            "communication" | "stats" => "IconMessages",
            "social" | "network" => "IconAffiliate",
            "ai" | "insights" => "IconBulb",
            "recommendations" => "IconChecklist",
            "sync" | "metadata" => "IconRefresh",
            "role" | "title" | "job" => "IconBriefcase",
            "email" | "emails" => "IconMail",
            "phone" | "phones" => "IconPhone",
            "website" | "url" | "link" | "links" | "domain" => "IconWorld",
            "address" | "city" | "country" => "IconMapPin",
            "date" | "start" | "end" | "seen" => "IconCalendar",
            "primary" | "current" | "favorite" => "IconStar",
            "score" | "level" | "confidence" | "importance" => "IconGauge",
            "description" | "summary" => "IconAlignLeft",
            "kind" | "type" => "IconTag",
            _ => return None,
        })
    });
    known.unwrap_or(match ty {
        "NUMBER" => "IconNumbers",
        "BOOLEAN" => "IconToggleRight",
        "DATE" | "DATE_TIME" => "IconCalendar",
        "ARRAY" | "MULTI_SELECT" => "IconTags",
        "SELECT" => "IconTag",
        "RAW_JSON" => "IconBraces",
        "RELATION" => "IconLink",
        _ => "IconAbc",
    })
}

/// Colours for the values of a choice, one after the other.
pub(super) const COLOURS: [&str; 10] =
    ["blue", "green", "turquoise", "sky", "purple", "pink", "red", "orange", "yellow", "gray"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_words() {
        for (name, expected) in [
            ("llmContext", "LLM context"),
            ("contactId", "Contact ID"),
            ("syncMetadata", "Sync metadata"),
            ("people_businesses", "People businesses"),
            ("aiInsights", "AI insights"),
            ("notes", "Notes"),
        ] {
            assert_eq!(label(name), expected);
        }
        assert_eq!(camel("people_businesses"), "peopleBusinesses");
        for (one, many) in
            [("company", "companies"), ("business", "businesses"), ("link", "links"), ("day", "days")]
        {
            assert_eq!(plural(one), many);
        }
        assert_eq!((icon("contactId", "TEXT"), icon("whatever", "NUMBER")), ("IconKey", "IconNumbers"));
    }
}
