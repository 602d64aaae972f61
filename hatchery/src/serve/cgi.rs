//! The CGI variables of a request, for the protocols that speak of requests so.

use super::fastcgi::Params;
use super::headers::{self, Peer};
use bytes::{Buf, BufMut, BytesMut};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request;
use hyper::{Uri, Version};

/// What a worker has to take.
const LONGEST_BLOCK: usize = 1024 * 1024;
const SOFTWARE: &str = concat!("hatchery/", env!("CARGO_PKG_VERSION"));

/// A request, as its variables are made of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) head: &'a request::Parts,
    /// Path and query as the client sent them, or `*`.
    pub(crate) uri: &'a Uri,
    pub(crate) host: Option<&'a HeaderValue>,
    /// The route's.
    pub(crate) prefix: &'a str,
    pub(crate) peer: Peer,
    pub(crate) upgrade: Option<&'a HeaderValue>,
    pub(crate) body: Length,
}

/// What is known of a body before it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// There is none, and none was announced.
    None,
    Known(u64),
    Chunked,
}

/// Why there are no variables for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsaid {
    /// Its path has a NUL in it, which ends names for most of the world.
    Nul,
    TooLong,
}

/// What is asked for, of the application.
#[derive(Debug)]
pub(crate) struct Target {
    /// `SCRIPT_NAME`, behind the prefix.
    pub(crate) script_name: Vec<u8>,
    pub(crate) path_info: Vec<u8>,
    /// The file that answers, and the folder that it was looked for in.
    pub(crate) script: Option<(Vec<u8>, Vec<u8>)>,
}

impl Call<'_> {
    /// The path behind the prefix, decoded.
    ///
    /// # Errors
    /// [`Unsaid::Nul`]
    pub(crate) fn path(&self) -> Result<Vec<u8>, Unsaid> {
        let path = decoded(self.uri.path().strip_prefix(self.prefix).unwrap_or_default());
        if path.contains(&0) { Err(Unsaid::Nul) } else { Ok(path) }
    }

    /// Where no files are looked at: the application is the prefix, and all behind it is told to it.
    ///
    /// # Errors
    /// [`Unsaid::Nul`]
    pub(crate) fn plain_target(&self) -> Result<Target, Unsaid> {
        Ok(Target { script_name: Vec::new(), path_info: self.path()?, script: None })
    }

    /// For `session`: the length, a colon, pairs that end in NULs, a comma.
    ///
    /// # Errors
    /// [`Unsaid`]
    pub(crate) fn block(&self, target: &Target) -> Result<BytesMut, Unsaid> {
        // Room for the longest length.
        const ROOM: usize = 8;
        let mut block = BytesMut::with_capacity(1024);
        block.put_bytes(0, ROOM);
        self.variables(target, |name, value| {
            block.put_slice(name);
            block.put_u8(0);
            block.put_slice(value);
            block.put_u8(0);
        });
        let length = block.len() - ROOM;
        if length > LONGEST_BLOCK {
            return Err(Unsaid::TooLong);
        }
        let length = format!("{length}:");
        let unused = ROOM - length.len();
        block[unused..ROOM].copy_from_slice(length.as_bytes());
        block.advance(unused);
        block.put_u8(b',');
        Ok(block)
    }

    /// For FastCGI.
    pub(crate) fn params(&self, target: &Target) -> Params {
        let mut params = Params::default();
        self.variables(target, |name, value| params.put(name, value));
        params
    }

    fn variables(&self, target: &Target, mut put: impl FnMut(&[u8], &[u8])) {
        let headers = headers::for_worker(self.head, self.host, self.prefix, self.peer, self.upgrade);
        let https = headers.get(headers::X_FORWARDED_PROTO).is_some_and(|scheme| scheme.as_bytes() == b"https");
        let (name, port) = self.server(if https { "443" } else { "80" });
        let remote = headers::client(&self.head.headers, self.peer).map(|address| address.to_string());
        let mut script_name = decoded(self.prefix);
        script_name.extend_from_slice(&target.script_name);
        let uri = self.uri.path_and_query().map_or("", |path| path.as_str());

        put(b"GATEWAY_INTERFACE", b"CGI/1.1");
        put(b"SERVER_SOFTWARE", SOFTWARE.as_bytes());
        put(b"REQUEST_METHOD", self.head.method.as_str().as_bytes());
        put(b"REQUEST_URI", uri.as_bytes());
        put(b"SCRIPT_NAME", &script_name);
        put(b"PATH_INFO", &target.path_info);
        put(b"QUERY_STRING", self.uri.query().unwrap_or_default().as_bytes());
        put(b"SERVER_PROTOCOL", if self.head.version == Version::HTTP_10 { b"HTTP/1.0" } else { b"HTTP/1.1" });
        put(b"SERVER_NAME", name.as_bytes());
        put(b"SERVER_PORT", port.as_bytes());
        put(b"REMOTE_ADDR", remote.as_deref().unwrap_or_default().as_bytes());
        if https {
            put(b"HTTPS", b"on");
        }
        if let Some((file, folder)) = &target.script {
            put(b"SCRIPT_FILENAME", file);
            put(b"DOCUMENT_ROOT", folder);
            // php-cgi answers only who says that a server has chosen the script.
            put(b"REDIRECT_STATUS", b"200");
        }
        match self.body {
            Length::None => {}
            Length::Known(length) => put(b"CONTENT_LENGTH", length.to_string().as_bytes()),
            Length::Chunked => put(b"HTTP_TRANSFER_ENCODING", b"chunked"),
        }
        self.headers(&headers, put);
    }

    fn headers(&self, headers: &HeaderMap, mut put: impl FnMut(&[u8], &[u8])) {
        let (mut name, mut joined) = (Vec::with_capacity(32), Vec::new());
        for key in headers.keys() {
            // `Content_Length` and its like would be taken for the real one; so could any other be.
            if *key == header::CONTENT_LENGTH || key.as_str().contains('_') {
                continue;
            }
            name.clear();
            if *key != header::CONTENT_TYPE {
                name.extend_from_slice(b"HTTP_");
            }
            name.extend(key.as_str().bytes().map(|byte| if byte == b'-' { b'_' } else { byte.to_ascii_uppercase() }));
            let mut values = headers.get_all(key).iter();
            let first = values.next().map_or(&b""[..], HeaderValue::as_bytes);
            let Some(second) = values.next() else {
                put(&name, first);
                continue;
            };
            joined.clear();
            joined.extend_from_slice(first);
            for value in std::iter::once(second).chain(values) {
                joined.extend_from_slice(if *key == header::COOKIE { b"; " } else { b", " });
                joined.extend_from_slice(value.as_bytes());
            }
            put(&name, &joined);
        }
    }

    /// The server's name and port, as the client says them.
    fn server(&self, usual: &'static str) -> (&str, &str) {
        let host = self.host.and_then(|host| host.to_str().ok()).filter(|host| !host.is_empty());
        let Some(host) = host else { return ("localhost", usual) };
        let behind = host.rfind(']').map_or(0, |bracket| bracket + 1);
        match host[behind..].find(':') {
            Some(colon) => {
                let (name, port) = (&host[..behind + colon], &host[behind + colon + 1..]);
                let port =
                    if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) { port } else { usual };
                (name, port)
            }
            None => (host, usual),
        }
    }
}

/// Without `%`-escapes; what is none stays as it is.
pub(crate) fn decoded(path: &str) -> Vec<u8> {
    let bytes = path.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.extend(u8::try_from(high * 16 + low));
                at += 3;
            }
            (byte, ..) => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;
    use std::collections::BTreeMap;
    use std::net::{IpAddr, Ipv4Addr};

    const FAR: Peer = Peer::Ip(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));

    /// The variables of a request, read back from a block.
    fn variables(uri: &str, prefix: &str, peer: Peer, said: &[(&str, &str)], body: Length) -> BTreeMap<String, String> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in said {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let (host, upgrade) = (head.headers.get(header::HOST), headers::upgrade_wanted(&head));
        let call = Call { head: &head, uri: &head.uri, host, prefix, peer, upgrade: upgrade.as_ref(), body };
        let block = call.block(&call.plain_target().unwrap()).unwrap();
        let text = String::from_utf8(block.to_vec()).unwrap();
        let (length, pairs) = text.split_once(':').unwrap();
        let pairs = pairs.strip_suffix(',').unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), pairs.len());
        let mut words = pairs.split_terminator('\0');
        let mut read = BTreeMap::new();
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            assert!(read.insert(name.to_owned(), value.to_owned()).is_none(), "{name} twice");
        }
        read
    }

    #[test]
    fn the_address_is_told_raw_and_in_its_parts() {
        let read = variables("/a%20b/c%2fd%zz?x=%20", "/a%20b", FAR, &[("host", "shop.example:8080")], Length::None);
        for (name, value) in [
            ("REQUEST_URI", "/a%20b/c%2fd%zz?x=%20"),
            ("SCRIPT_NAME", "/a b"),
            ("PATH_INFO", "/c/d%zz"),
            ("QUERY_STRING", "x=%20"),
            ("SERVER_NAME", "shop.example"),
            ("SERVER_PORT", "8080"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("REMOTE_ADDR", "192.0.2.7"),
            ("HTTP_HOST", "shop.example:8080"),
            ("GATEWAY_INTERFACE", "CGI/1.1"),
        ] {
            assert_eq!(read[name], value, "{name}");
        }
        assert!(!read.contains_key("HTTPS") && !read.contains_key("CONTENT_LENGTH"));
    }

    #[test]
    fn several_headers_of_one_name_are_one_variable() {
        let said = [("accept", "a"), ("accept", "b"), ("cookie", "x=1"), ("cookie", "y=2"), ("content-type", "text/a")];
        let read = variables("/", "", FAR, &said, Length::Known(7));
        assert_eq!((read["HTTP_ACCEPT"].as_str(), read["HTTP_COOKIE"].as_str()), ("a, b", "x=1; y=2"));
        assert_eq!((read["CONTENT_TYPE"].as_str(), read["CONTENT_LENGTH"].as_str()), ("text/a", "7"));
        assert!(!read.contains_key("HTTP_CONTENT_TYPE"));
    }

    #[test]
    fn no_header_passes_for_another_or_for_the_proxy_variable() {
        let said = [("proxy", "http://evil"), ("content_length", "9"), ("x_real", "evil"), ("x-real", "real")];
        let read = variables("/", "", FAR, &said, Length::Chunked);
        assert!(!read.contains_key("HTTP_PROXY") && !read.contains_key("HTTP_CONTENT_LENGTH"));
        assert_eq!((read["HTTP_X_REAL"].as_str(), read["HTTP_TRANSFER_ENCODING"].as_str()), ("real", "chunked"));
    }

    #[test]
    fn a_proxy_on_this_machine_is_believed_and_nobody_else() {
        let said = [("host", "[::1]"), ("x-forwarded-proto", "https"), ("x-forwarded-for", "10.0.0.9, 203.0.113.5")];
        let near = variables("/", "", Peer::Ip(Ipv4Addr::LOCALHOST.into()), &said, Length::None);
        assert_eq!((near["HTTPS"].as_str(), near["REMOTE_ADDR"].as_str()), ("on", "203.0.113.5"));
        assert_eq!((near["SERVER_NAME"].as_str(), near["SERVER_PORT"].as_str()), ("[::1]", "443"));
        let far = variables("/", "", FAR, &said, Length::None);
        assert_eq!((far.get("HTTPS"), far["REMOTE_ADDR"].as_str()), (None, "192.0.2.7"));
        assert_eq!(variables("/", "", Peer::Unix, &[], Length::None)["REMOTE_ADDR"], "");
    }

    #[test]
    fn a_nul_in_a_path_is_refused_before_it_could_end_a_name() {
        let (head, ()) = Request::builder().uri("/a%00HTTP_X").body(()).unwrap().into_parts();
        let call =
            Call { head: &head, uri: &head.uri, host: None, prefix: "", peer: FAR, upgrade: None, body: Length::None };
        assert_eq!(call.plain_target().unwrap_err(), Unsaid::Nul);
    }
}
