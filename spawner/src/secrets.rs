//! Hiding what may be secret in what people are shown.

/// In place of what is hidden.
const HIDDEN: &str = "(hidden)";
/// Longer values are cut: people read them.
const LONGEST: usize = 200;
/// A variable or option with one of these in its name may hold a secret.
const WORDS: [&str; 16] = [
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "TOKEN",
    "KEY",
    "CREDENTIAL",
    "AUTH",
    "PRIVATE",
    "DSN",
    "COOKIE",
    "SALT",
    "SIGNATURE",
    "CERT_PEM",
    "SESSION_ID",
    "PWD",
];
/// Names with such a word in them that hold none.
const HARMLESS: [&str; 2] = ["PWD", "OLDPWD"];

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase().replace('-', "_");
    !HARMLESS.contains(&name.as_str()) && WORDS.iter().any(|word| name.contains(word))
}

/// The value of a variable, as people may see it.
pub(crate) fn value(name: &str, value: &str) -> String {
    if is_secret(name) && !value.is_empty() { HIDDEN.into() } else { cut(&without_passwords(value)) }
}

/// A command line, as people may see it.
pub(crate) fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut hide_next = false;
    let mut shown = Vec::new();
    for word in words {
        let hide = std::mem::take(&mut hide_next) && !word.starts_with('-');
        let named = word.split_once('=').filter(|(name, _)| is_secret(name) && is_plain(name));
        shown.push(match named {
            _ if hide => HIDDEN.into(),
            Some((name, _)) => format!("{name}={HIDDEN}"),
            None => cut(&without_passwords(word)),
        });
        hide_next = word.starts_with("--") && !word.contains('=') && is_secret(word);
    }
    shown
}

fn is_plain(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// The text with the passwords of all addresses in it hidden, and what their queries say of secrets.
fn without_passwords(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',')).unwrap_or(after.len());
        let (address, remains) = after.split_at(end);
        out.push_str(&without_password(address));
        rest = remains;
    }
    out.push_str(rest);
    out
}

/// Of an address without its scheme.
fn without_password(address: &str) -> String {
    let end = address.find(['/', '?', '#']).unwrap_or(address.len());
    // A password may hold such a character though it should not; what is a number is a port.
    let is_number = |(_, port): (&str, &str)| port.chars().all(|c| c.is_ascii_digit());
    let is_whole = address[..end].contains('@') || address[..end].split_once(':').is_none_or(is_number);
    let end = if is_whole { end } else { address.find('?').unwrap_or(address.len()) };
    let (authority, rest) = match address[..end].rfind('@') {
        Some(at) => (&address[..at], &address[at..]),
        None => ("", address),
    };
    let shown = match authority.split_once(':') {
        Some((user, _)) => format!("{user}:{HIDDEN}"),
        // A token alone is one.
        None if authority.len() > 20 => HIDDEN.to_owned(),
        None => authority.to_owned(),
    };
    shown + &without_secret_parameters(rest)
}

fn without_secret_parameters(rest: &str) -> String {
    let Some((path, query)) = rest.split_once('?') else { return rest.to_owned() };
    let parameters = query.split('&').map(|parameter| match parameter.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}={HIDDEN}"),
        Some(_) | None => parameter.to_owned(),
    });
    format!("{path}?{}", parameters.collect::<Vec<_>>().join("&"))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_secrets_name_is_hidden() {
        for name in [
            "SECRET_KEY_BASE",
            "DB_PASSWORD",
            "MYSQL_PWD",
            "github_token",
            "AWS_ACCESS_KEY_ID",
            "SENTRY_DSN",
            "HTTP_AUTHORIZATION",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "session-cookie",
        ] {
            assert_eq!(value(name, "x"), HIDDEN, "{name}");
            assert_eq!(value(name, ""), "", "{name}");
        }
        for name in ["PATH", "HOME", "LANG", "RAILS_ENV", "PWD", "GREETING"] {
            assert_eq!(value(name, "x"), "x", "{name}");
        }
    }

    #[test]
    fn passwords_in_addresses_are_hidden() {
        for (text, shown) in [
            ("postgres://ann:p4@db/x", "postgres://ann:(hidden)@db/x"),
            ("postgres://ann:p/4@db/x", "postgres://ann:(hidden)@db/x"),
            ("redis://:p4@h:1", "redis://:(hidden)@h:1"),
            ("a://u:p@h,b://v:q@i c", "a://u:(hidden)@h,b://v:(hidden)@i c"),
            ("https://ghp_0123456789012345678@h/x", "https://(hidden)@h/x"),
            ("https://ann@h/x", "https://ann@h/x"),
            ("pg://h/d?user=ann&password=p4", "pg://h/d?user=ann&password=(hidden)"),
            ("http://h:80/a@b", "http://h:80/a@b"),
            ("plain:text@x", "plain:text@x"),
            ("://", "://"),
        ] {
            assert_eq!(value("URL", text), shown, "{text}");
        }
    }

    #[test]
    fn options_of_commands_are_hidden_too() {
        let line = ["a", "--password=x", "--token", "y", "--api-key", "--port", "1", "SECRET=z", "u://a:b@c"];
        let shown = [
            "a",
            "--password=(hidden)",
            "--token",
            "(hidden)",
            "--api-key",
            "--port",
            "1",
            "SECRET=(hidden)",
            "u://a:(hidden)@c",
        ];
        assert_eq!(words(line), shown);
    }

    #[test]
    fn long_values_are_cut() {
        let shown = value("A", &"é".repeat(300));
        assert_eq!(shown.chars().count(), 201);
        assert!(shown.ends_with('…'));
    }
}
