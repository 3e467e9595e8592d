//! The headers a registry answers with, read leniently: what cannot be read is left out.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{HeaderMap, LINK, RETRY_AFTER, WWW_AUTHENTICATE};

/// One way to prove who one is, as a 401 offers it.
/// <https://www.rfc-editor.org/rfc/rfc9110.html#section-11.6.1>
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// In lower case: `basic`, `bearer`.
    pub scheme: String,
    /// Names in lower case, values as they are.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of the parameter `name`.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// All challenges of an answer.
pub(super) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(parse_challenges).collect()
}

/// `Scheme name="value", name=value, Scheme …`: a word followed by `=` is a parameter, any other starts a challenge.
fn parse_challenges(text: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let end = rest.find([',', ' ', '\t', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if let Some(value) = after.trim_start().strip_prefix('=') {
            let (value, after) = take_value(value);
            if let Some(challenge) = found.last_mut() {
                challenge.parameters.push((word.to_ascii_lowercase(), value));
            }
            rest = after;
        } else if word.is_empty() {
            return found;
        } else {
            found.push(Challenge { scheme: word.to_ascii_lowercase(), ..Challenge::default() });
            rest = after;
        }
    }
}

/// A token, or a quoted string with its escapes undone; and what follows it.
fn take_value(text: &str) -> (String, &str) {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([',', ';', ' ', '\t']).unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

/// How long the registry asks to be left alone, in seconds or as a date.
/// <https://www.rfc-editor.org/rfc/rfc9110.html#section-10.2.3>
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(Duration::try_from(http_date(text)?.duration_since(now)).unwrap_or_default())
}

/// How long to leave the registry alone, as it says in any of the ways in use: `Retry-After`, Docker Hub's
/// `X-Retry-After` (a moment in seconds since 1970), or a used-up `X-RateLimit-Remaining` with its `X-RateLimit-Reset`.
pub(super) fn asked_pause(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
    let until = |second: i64| {
        let moment = Timestamp::from_second(second).ok()?;
        Some(Duration::try_from(moment.duration_since(now)).unwrap_or_default())
    };
    retry_after(headers, now)
        .or_else(|| number("x-retry-after").and_then(until))
        .or_else(|| is_used_up(headers).then(|| number("x-ratelimit-reset")).flatten().and_then(until))
}

/// Whether the answer says that no request is left: GitHub says so with a 403 as well as with a 429.
/// <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api>
pub(super) fn is_used_up(headers: &HeaderMap) -> bool {
    headers.get("x-ratelimit-remaining").is_some_and(|left| left.as_bytes() == b"0")
}

/// How many pulls are left, and in how long a time, where the registry counts them: `RateLimit-Remaining: 76;w=21600`.
/// <https://docs.docker.com/docker-hub/usage/pulls/>
pub(super) fn pulls_left(headers: &HeaderMap) -> Option<(u64, Duration)> {
    let text = headers.get("ratelimit-remaining")?.to_str().ok()?;
    let (left, window) = text.split_once(";w=")?;
    Some((left.trim().parse().ok()?, Duration::from_secs(window.trim().parse().ok()?)))
}

/// A moment as HTTP writes it.
/// <https://www.rfc-editor.org/rfc/rfc9110.html#section-5.6.7>
pub(super) fn http_date(text: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// The target of the link to the next page, as written.
/// <https://www.rfc-editor.org/rfc/rfc8288.html#section-3>
pub(super) fn next_link(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(parse_links).find(|(_, relation)| relation == "next").map(|(target, _)| target)
}

/// Targets with their relations; a target without one has an empty one.
fn parse_links(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((target, after)) = rest.split_once('<').and_then(|(_, rest)| rest.split_once('>')) {
        let (relation, after) = take_relation(after);
        found.push((target.to_owned(), relation));
        rest = after;
    }
    found
}

/// The relation among the parameters up to the next link, in lower case; and what follows them.
fn take_relation(text: &str) -> (String, &str) {
    let mut relation = String::new();
    let mut rest = text.trim_start();
    while let Some(parameter) = rest.strip_prefix(';') {
        let (name, after) = parameter.split_at(parameter.find(['=', ';', ',']).unwrap_or(parameter.len()));
        let (value, after) = match after.strip_prefix('=') {
            Some(value) => take_value(value),
            None => (String::new(), after),
        };
        if name.trim().eq_ignore_ascii_case("rel") && relation.is_empty() {
            relation = value.trim().to_ascii_lowercase();
        }
        rest = after.trim_start();
    }
    (relation, rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn challenges_are_read_with_quotes_escapes_and_commas() {
        let text = r#"Bearer realm="https://auth.example/token?a=b",service="a \"quoted\", name",scope="repository:a/b:pull,push", Basic realm=lab, Negotiate"#;
        let found = challenges(&with(WWW_AUTHENTICATE, text));
        assert_eq!(
            found.iter().map(|c| c.scheme.as_str()).collect::<Vec<_>>(),
            ["bearer", "basic", "negotiate"]
        );
        assert_eq!(found[0].parameter("realm"), Some("https://auth.example/token?a=b"));
        assert_eq!(found[0].parameter("service"), Some(r#"a "quoted", name"#));
        assert_eq!(found[0].parameter("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(found[1].parameter("realm"), Some("lab"));
        assert_eq!(found[2].parameter("realm"), None);
    }

    #[test]
    fn challenges_with_spaces_around_the_equals_sign_are_read() {
        let found = parse_challenges(r#"BEARER Realm = "x" , service = y"#);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].parameter("realm"), found[0].parameter("service")), (Some("x"), Some("y")));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2015-10-21T07:28:00Z".parse().unwrap();
        for (text, seconds) in [
            ("120", Some(120)),
            ("Wed, 21 Oct 2015 07:29:00 GMT", Some(60)),
            ("Wed, 21 Oct 2015 07:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(
                retry_after(&with(RETRY_AFTER, text), now),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
    }

    #[test]
    fn a_registry_asks_for_a_pause_in_many_ways() {
        let now = Timestamp::from_second(1_000).unwrap();
        let headers = |pairs: &[(&'static str, &'static str)]| {
            HeaderMap::from_iter(
                pairs
                    .iter()
                    .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))),
            )
        };
        for (pairs, seconds) in [
            (&[("retry-after", "7"), ("x-retry-after", "1030")][..], Some(7)),
            (&[("x-retry-after", "1030")], Some(30)),
            (&[("x-retry-after", "900")], Some(0)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1060")], Some(60)),
            (&[("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "1060")], None),
            (&[("x-ratelimit-remaining", "0")], None),
            (&[], None),
        ] {
            assert_eq!(asked_pause(&headers(pairs), now), seconds.map(Duration::from_secs), "{pairs:?}");
        }
    }

    #[test]
    fn docker_hub_counts_pulls() {
        let left = |text| pulls_left(&with(HeaderName::from_static("ratelimit-remaining"), text));
        assert_eq!(left("76;w=21600"), Some((76, Duration::from_hours(6))));
        assert_eq!(left("0;w=3600"), Some((0, Duration::from_hours(1))));
        assert_eq!((left("76"), left("many;w=1"), left("")), (None, None, None));
    }

    #[test]
    fn the_next_link_is_found_in_every_form() {
        for (text, target) in [
            (r#"</v2/_catalog?last=bb&n=2>; rel="next""#, Some("/v2/_catalog?last=bb&n=2")),
            ("<https://a.example/x?y=1,2>;rel=next", Some("https://a.example/x?y=1,2")),
            (r#"</first>; rel="first", </n>; title="a, <b>; c"; rel="Next""#, Some("/n")),
            (r#"</last>; rel="last""#, None),
            ("</x>", None),
            ("junk", None),
        ] {
            assert_eq!(next_link(&with(LINK, text)).as_deref(), target, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_a_parser_panic(text in "[ -~]{0,60}", pieces in prop::collection::vec(
            prop::sample::select(vec!["Bearer ", "realm", "=", "\"", "\\", ",", ";", "<", ">", "rel", "next", " ", "é"]), 0..24)) {
            for text in [text, pieces.concat()] {
                parse_challenges(&text);
                parse_links(&text);
                if let Ok(value) = HeaderValue::from_str(&text) {
                    for name in ["retry-after", "x-retry-after", "ratelimit-remaining"] {
                        let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value.clone())]);
                        asked_pause(&headers, Timestamp::UNIX_EPOCH);
                        pulls_left(&headers);
                    }
                }
            }
        }

        #[test]
        fn a_quoted_value_comes_back_whole(value in "[ -~]{0,40}") {
            let escaped = value.replace('\\', r"\\").replace('"', "\\\"");
            let found = parse_challenges(&format!("Bearer realm=\"{escaped}\", service=x"));
            prop_assert_eq!(found.len(), 1);
            prop_assert_eq!(found[0].parameter("realm"), Some(value.as_str()));
            prop_assert_eq!(found[0].parameter("service"), Some("x"));
        }
    }
}
