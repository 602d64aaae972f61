//! What of a message's head is for the next hop alone, and what Hatchery adds.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request;
use std::net::{IpAddr, SocketAddr};

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Said by the peer only if it is a proxy of the operator's; anybody else could say anything.
const BELIEVED_FROM_NEAR: [HeaderName; 6] = [
    X_FORWARDED_PROTO,
    X_FORWARDED_HOST,
    X_FORWARDED_PREFIX,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-real-ip"),
    header::FORWARDED,
];

/// Who sent the request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    Ip(IpAddr),
    Unix,
}

impl Peer {
    /// A peer on this machine may be a proxy that speaks for a browser; its `X-Forwarded-*` are passed on.
    fn is_near(self) -> bool {
        match self {
            Self::Ip(address) => address.to_canonical().is_loopback(),
            Self::Unix => true,
        }
    }
}

/// Who asks, as far as that is known: whoever a proxy on this machine speaks for, else the peer.
pub(crate) fn client(headers: &HeaderMap, peer: Peer) -> Option<IpAddr> {
    let told = if peer.is_near() { tokens(headers, &X_FORWARDED_FOR).last() } else { None };
    let address = told.and_then(|told| {
        let with_port = || told.parse::<SocketAddr>().ok().map(|address| address.ip());
        told.trim_matches(['[', ']']).parse().ok().or_else(with_port)
    });
    match (address, peer) {
        (None, Peer::Ip(address)) => Some(address.to_canonical()),
        (address, _) => address,
    }
}

/// The protocol the client asks to change to, if that is to be passed on.
///
/// `h2c` is not: what follows it would pass every rule here unseen.
pub(crate) fn upgrade_wanted(request: &request::Parts) -> Option<HeaderValue> {
    let named = tokens(&request.headers, &header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let protocol = request.headers.get(header::UPGRADE)?;
    let h2c = tokens(&request.headers, &header::UPGRADE).any(|token| token.to_ascii_lowercase().starts_with("h2"));
    (named && !h2c && request.version == hyper::Version::HTTP_11).then(|| protocol.clone())
}

/// The head for the worker.
pub(crate) fn for_worker(
    request: &request::Parts,
    host: Option<&HeaderValue>,
    prefix: &str,
    peer: Peer,
    upgrade: Option<&HeaderValue>,
) -> HeaderMap {
    let mut headers = request.headers.clone();
    let trailers = tokens(&headers, &header::TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    remove_hop_by_hop(&mut headers);
    remove_look_alikes(&mut headers);
    // The client was answered already, by whoever reads its body here.
    headers.remove(header::EXPECT);
    headers.remove(HTTP2_SETTINGS);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol.clone());
    }
    match host {
        Some(host) => headers.insert(header::HOST, host.clone()),
        None => headers.insert(header::HOST, HeaderValue::from_static("localhost")),
    };
    add_forwarding(&mut headers, host, prefix, peer);
    headers
}

/// The head for the client, in place.
pub(crate) fn for_client(headers: &mut HeaderMap, upgraded: bool) {
    let upgrade = upgraded.then(|| headers.get(header::UPGRADE).cloned()).flatten();
    remove_hop_by_hop(headers);
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
}

fn add_forwarding(headers: &mut HeaderMap, host: Option<&HeaderValue>, prefix: &str, peer: Peer) {
    if !peer.is_near() {
        for name in &BELIEVED_FROM_NEAR {
            headers.remove(name);
        }
    }
    if let Peer::Ip(address) = peer {
        let so_far = headers.get_all(X_FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let mut chain: String = so_far.flat_map(|value| [value, ", "]).collect();
        chain.push_str(&address.to_canonical().to_string());
        if let Ok(chain) = HeaderValue::try_from(chain) {
            headers.insert(X_FORWARDED_FOR, chain);
        }
    }
    headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    if let Some(host) = host {
        headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
    }
    if !prefix.is_empty() {
        // A proxy in front may have taken a prefix of its own away: ours comes after it.
        let outer = headers.get(X_FORWARDED_PREFIX).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if let Ok(whole) = HeaderValue::try_from(format!("{}{prefix}", outer.trim_end_matches('/'))) {
            headers.insert(X_FORWARDED_PREFIX, whole);
        }
    }
}

/// Removes what speaks of one connection only: `Connection` and what it names, and the usual others.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        tokens(headers, &header::CONNECTION).filter_map(|token| HeaderName::try_from(token).ok()).collect();
    for name in named {
        // Naming these would change what the message is.
        if name != header::HOST && name != header::CONTENT_LENGTH {
            headers.remove(name);
        }
    }
    for name in [header::CONNECTION, KEEP_ALIVE, header::TE, header::TRANSFER_ENCODING, header::UPGRADE] {
        headers.remove(name);
    }
    // `Proxy` becomes HTTP_PROXY in CGI-like environments, which programs obey.
    remove_where(headers, |name| name == "proxy" || name.starts_with("proxy-"));
}

/// Removes `X_Forwarded_For` and its like, which CGI-like environments can't tell from the real one.
fn remove_look_alikes(headers: &mut HeaderMap) {
    remove_where(headers, |name| {
        name.contains('_') && {
            let dashed = name.replace('_', "-");
            dashed.starts_with("x-forwarded-")
                || dashed.starts_with("proxy")
                || matches!(dashed.as_str(), "x-real-ip" | "content-length" | "content-type" | "transfer-encoding")
        }
    });
}

fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The comma-separated words of all headers of this name.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROWSER: Peer = Peer::Ip(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)));
    const LOOPBACK: Peer = Peer::Ip(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    fn request(headers: &[(&str, &str)]) -> request::Parts {
        let mut builder = hyper::Request::builder();
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn sent(headers: &[(&str, &str)], peer: Peer, prefix: &str) -> HeaderMap {
        let request = request(headers);
        let host = request.headers.get(header::HOST).cloned();
        let upgrade = upgrade_wanted(&request);
        for_worker(&request, host.as_ref(), prefix, peer, upgrade.as_ref())
    }

    #[test]
    fn what_is_for_one_hop_is_not_passed_on() {
        let headers = sent(
            &[
                ("host", "a.example"),
                ("connection", "close, X-Private"),
                ("x-private", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy", "http://evil"),
                ("proxy-authorization", "x"),
                ("proxy-connection", "keep-alive"),
                ("te", "trailers, deflate"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "websocket"),
                ("x-kept", "1"),
            ],
            BROWSER,
            "",
        );
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["host", "te", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-kept"]);
        assert_eq!(headers[header::TE], "trailers");
    }

    #[test]
    fn connection_cannot_name_the_host_or_the_length_away() {
        let headers =
            sent(&[("host", "a"), ("connection", "host, content-length"), ("content-length", "3")], BROWSER, "");
        assert_eq!(headers[header::HOST], "a");
        assert_eq!(headers[header::CONTENT_LENGTH], "3");
    }

    #[test]
    fn a_far_peer_is_not_believed_and_its_address_is_added() {
        let said = [("host", "a"), ("x-forwarded-for", "10.0.0.1"), ("x-forwarded-proto", "https"), ("x-real-ip", "1")];
        let headers = sent(&said, BROWSER, "/shop");
        assert_eq!(headers[X_FORWARDED_FOR], "10.0.0.1, 192.0.2.7");
        assert_eq!(headers[X_FORWARDED_PROTO], "http");
        assert_eq!(headers[X_FORWARDED_PREFIX], "/shop");
        assert!(!headers.contains_key("x-real-ip"));
    }

    #[test]
    fn a_proxy_on_this_machine_is_believed() {
        let said = [
            ("host", "inner"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "a.example"),
            ("x-forwarded-prefix", "/outer/"),
        ];
        let headers = sent(&said, LOOPBACK, "/shop");
        assert_eq!(headers[X_FORWARDED_FOR], "192.0.2.7, 127.0.0.1");
        assert_eq!(headers[X_FORWARDED_PROTO], "https");
        assert_eq!(headers[X_FORWARDED_HOST], "a.example");
        assert_eq!(headers[X_FORWARDED_PREFIX], "/outer/shop");
        assert_eq!(sent(&said, Peer::Unix, "")[X_FORWARDED_FOR], "192.0.2.7");
    }

    #[test]
    fn underscored_look_alikes_are_dropped_and_other_underscores_stay() {
        let headers =
            sent(&[("host", "a"), ("x_forwarded_for", "1"), ("content_length", "9"), ("my_header", "1")], BROWSER, "");
        assert!(!headers.contains_key("x_forwarded_for"));
        assert!(!headers.contains_key("content_length"));
        assert!(headers.contains_key("my_header"));
    }

    #[test]
    fn a_websocket_is_passed_on_and_h2c_is_not() {
        let websocket =
            sent(&[("host", "a"), ("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")], BROWSER, "");
        assert_eq!(websocket[header::CONNECTION], "upgrade");
        assert_eq!(websocket[header::UPGRADE], "websocket");
        let h2c = sent(
            &[("host", "a"), ("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "x")],
            BROWSER,
            "",
        );
        assert!(!h2c.contains_key(header::UPGRADE));
        assert!(!h2c.contains_key("http2-settings"));
    }

    #[test]
    fn an_answer_loses_what_is_for_one_hop() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "5"),
            ("transfer-encoding", "chunked"),
            ("etag", "1"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        for_client(&mut headers, false);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["etag"]);
    }
}
