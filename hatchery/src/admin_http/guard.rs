//! Who may ask: for which host, with which token, and what a page of another site may not make a browser do.
//!
//! App owners on the same machine reach this too, and so does every page that a browser on it shows. A name that is
//! not known here may be one that somebody else lets point to this machine; an app is served at `NAME.localhost`, so
//! that isn't known either. Cookies know no ports, and an app at another port would be sent them: there are none.

use super::answers::{self, Answer};
use hyper::StatusCode;
use hyper::header::{self, HeaderMap};
use hyper::http::request;
use std::fmt::Write;
use std::net::IpAddr;
use subtle::ConstantTimeEq;

/// In which the page's own script repeats what stands in the page.
const CSRF: &str = "x-hatchery-csrf";

/// 256 random bits, as digits.
pub(super) struct Secret(String);

/// Not what it is.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// # Errors
    /// The kernel gives no randomness.
    pub(super) fn new() -> std::io::Result<Self> {
        let mut bits = [0; 32];
        let mut filled = 0;
        while filled < bits.len() {
            filled += rustix::rand::getrandom(&mut bits[filled..], rustix::rand::GetRandomFlags::empty())?;
        }
        Ok(Self(bits.iter().fold(String::new(), |mut digits, byte| {
            let _ = write!(digits, "{byte:02x}");
            digits
        })))
    }

    pub(super) fn digits(&self) -> &str {
        &self.0
    }

    /// In a time that tells nothing about it.
    fn is(&self, said: &str) -> bool {
        self.0.as_bytes().ct_eq(said.as_bytes()).into()
    }
}

#[derive(Debug)]
pub(super) struct Guard {
    /// `None`: who reaches the socket may see all.
    pub(super) token: Option<Secret>,
    pub(super) csrf: Secret,
    /// Names of this machine, in lowercase; `None`: any will do, since no browser finds the way by a name.
    pub(super) hosts: Option<Vec<String>>,
    pub(super) actions: bool,
}

impl Guard {
    /// Whether it was asked for by a name of this machine.
    ///
    /// # Errors
    /// What to answer.
    pub(super) fn host(&self, head: &request::Parts) -> Result<(), Box<Answer>> {
        let Some(hosts) = &self.hosts else { return Ok(()) };
        let bad = |text: &str| Err(Box::new(answers::text(StatusCode::BAD_REQUEST, text)));
        let mut named = head.headers.get_all(header::HOST).iter();
        let said = match (named.next(), named.next()) {
            (_, Some(_)) => return bad("the request has more than one Host"),
            (None, None) => return bad("the request has no Host; HTTP/1.1 wants one"),
            (Some(host), None) => host.to_str().unwrap_or_default(),
        };
        let asked = head.uri.authority().map(|authority| authority.as_str());
        for said in [Some(said), asked].into_iter().flatten() {
            let Some(host) = bare(said) else { return bad("the Host of the request is no host and port") };
            let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
            if !literal && !hosts.contains(&host) {
                let why = format!(
                    "{host} is not known as a name of this machine; use its address, or add the name to \
                     admin_http_hosts"
                );
                return Err(Box::new(answers::text(StatusCode::MISDIRECTED_REQUEST, &why)));
            }
        }
        Ok(())
    }

    /// Whether the token came along. `asked`: what the query says of it.
    pub(super) fn knows(&self, headers: &HeaderMap, asked: Option<&str>) -> bool {
        let Some(token) = &self.token else { return true };
        let bearer = headers.get(header::AUTHORIZATION).and_then(|said| said.to_str().ok());
        let bearer =
            bearer.and_then(|said| said.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        bearer.map(|(_, token)| token.trim()).or(asked).is_some_and(|said| token.is(said))
    }

    /// Whether an action was ordered by the page itself, and may be at all.
    ///
    /// # Errors
    /// What to answer.
    pub(super) fn may_act(&self, headers: &HeaderMap) -> Result<(), Box<Answer>> {
        let no = |text: &str| Err(Box::new(answers::failed(StatusCode::FORBIDDEN, text)));
        let said = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        if !self.actions {
            return no("this page may only look; admin_http_actions = true lets it do something");
        }
        let kind = said(header::CONTENT_TYPE.as_str()).and_then(|kind| kind.split(';').next()).unwrap_or_default();
        if !kind.trim().eq_ignore_ascii_case("application/json") {
            let why = "an action is an object in JSON, said with Content-Type: application/json";
            return Err(Box::new(answers::failed(StatusCode::UNSUPPORTED_MEDIA_TYPE, why)));
        }
        if !said(CSRF).is_some_and(|said| self.csrf.is(said)) {
            return no("X-Hatchery-CSRF does not say what the page has; load the page anew");
        }
        let host = said(header::HOST.as_str()).unwrap_or_default();
        let own = |origin: &str| origin.split_once("://").is_some_and(|(_, at)| at.eq_ignore_ascii_case(host));
        if said(header::ORIGIN.as_str()).is_some_and(|origin| host.is_empty() || !own(origin)) {
            return no("this came from a page of another site");
        }
        if said("sec-fetch-site").is_some_and(|site| site != "same-origin") {
            return no("this came from a page of another site");
        }
        Ok(())
    }
}

/// Names of this machine that need not be configured.
pub(super) fn names_of_this_machine(further: Vec<String>) -> Vec<String> {
    let system = rustix::system::uname();
    let own = system.nodename().to_string_lossy().to_ascii_lowercase();
    further.into_iter().chain(["localhost".to_owned(), own]).collect()
}

/// A host without its port and its final dot, in lowercase; `None`: it is neither a name nor an address.
fn bare(host: &str) -> Option<String> {
    let (name, port) = match host.rfind(']') {
        Some(bracket) => host.split_at(bracket + 1),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port_fits = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '[' | ']');
    (port_fits && !name.is_empty() && name.chars().all(fits)).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(actions: bool) -> Guard {
        let hosts = Some(vec!["localhost".to_owned(), "pool.example".to_owned()]);
        Guard { token: Some(Secret("t".repeat(64))), csrf: Secret("c".repeat(64)), hosts, actions }
    }

    fn head(headers: &[(&str, &str)]) -> request::Parts {
        let request =
            headers.iter().fold(hyper::Request::get("/"), |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_names_and_addresses_of_this_machine_are_answered() {
        let status =
            |host: &str| guard(true).host(&head(&[("host", host)])).err().map(|answer| answer.status().as_u16());
        for host in ["localhost", "LOCALHOST:9090", "127.0.0.1:9090", "[::1]:9090", "192.0.2.1", "pool.example.:80"] {
            assert_eq!(status(host), None, "{host}");
        }
        for host in ["shop.localhost:9090", "evil.example", "127.0.0.1.nip.example", "localhost.evil.example"] {
            assert_eq!(status(host), Some(421), "{host}");
        }
        for host in ["", ":80", "a b", "localhost:x", "user@localhost", "localhost:80:80"] {
            assert_eq!(status(host), Some(400), "{host}");
        }
        let answer = |headers: &[(&str, &str)]| guard(true).host(&head(headers)).unwrap_err().status().as_u16();
        assert_eq!(answer(&[]), 400);
        assert_eq!(answer(&[("host", "localhost"), ("host", "localhost")]), 400);
    }

    #[test]
    fn the_token_is_said_in_the_address_or_as_a_bearer() {
        let (right, wrong) = ("t".repeat(64), "t".repeat(63));
        let knows = |authorization: Option<String>, asked: Option<&str>| {
            let said: Vec<(&str, &str)> = authorization.iter().map(|said| ("authorization", said.as_str())).collect();
            guard(true).knows(&head(&said).headers, asked)
        };
        assert!(knows(None, Some(&right)) && knows(Some(format!("Bearer {right}")), None));
        assert!(!knows(None, None) && !knows(None, Some(&wrong)) && !knows(None, Some("")));
        assert!(!knows(Some(format!("Basic {right}")), None) && !knows(Some(right.clone()), None));
        assert!(!knows(Some(format!("Bearer {wrong}")), Some(&right)), "what is said first holds");
        assert!(Guard { token: None, ..guard(true) }.knows(&HeaderMap::new(), None));
    }

    #[test]
    fn an_action_needs_all_that_only_the_page_itself_can_say() {
        let csrf = "c".repeat(64);
        let whole = [
            ("host", "localhost:9090"),
            ("content-type", "application/json; charset=utf-8"),
            ("x-hatchery-csrf", csrf.as_str()),
            ("origin", "http://localhost:9090"),
            ("sec-fetch-site", "same-origin"),
        ];
        let status = |guard: &Guard, headers: &[(&str, &str)]| {
            guard.may_act(&head(headers).headers).err().map(|answer| answer.status().as_u16())
        };
        assert_eq!(status(&guard(true), &whole), None);
        assert_eq!(status(&guard(true), &whole[..3]), None, "no browser");
        assert_eq!(status(&guard(false), &whole), Some(403));
        for (index, value, refused) in [
            (1, "text/plain", 415),
            (2, "c", 403),
            (3, "http://evil.example", 403),
            (3, "null", 403),
            (3, "http://localhost:8080", 403),
            (4, "same-site", 403),
            (4, "cross-site", 403),
            (4, "none", 403),
        ] {
            let mut headers = whole;
            headers[index].1 = value;
            assert_eq!(status(&guard(true), &headers), Some(refused), "{value}");
        }
        assert_eq!(status(&guard(true), &[whole[0], whole[1], whole[3]]), Some(403), "without the page's word");
    }

    #[test]
    fn secrets_are_new_and_long() {
        let (one, other) = (Secret::new().unwrap(), Secret::new().unwrap());
        assert!(one.digits().len() == 64 && one.digits() != other.digits());
    }
}
