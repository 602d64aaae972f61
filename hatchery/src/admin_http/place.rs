//! Where the operator's HTTP is served, and how it gets a socket there.

use crate::serve::listen::{Binding, Bound, Place};
use crate::serve::router::Route;
use hatchery_protocol::config::PoolOptions;

/// A socket of it is for this user alone.
const OWN: u32 = 0o600;

/// What was said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) place: Place,
    /// The page may do something.
    pub(crate) actions: bool,
    /// Further names by which it may be asked for.
    pub(crate) hosts: Vec<String>,
}

impl Wanted {
    /// `None`: it is off.
    ///
    /// # Errors
    /// One sentence that names the key and what can be written there.
    pub(crate) fn of(options: &PoolOptions) -> Result<Option<Self>, String> {
        let Some(place) = options.admin_http.as_deref().map(place).transpose()?.flatten() else { return Ok(None) };
        let hosts = options.admin_http_hosts.iter().flatten().filter(|host| *host != "none");
        let hosts = hosts.map(|host| match Route::place_of(host, "") {
            Ok((Some(host), _)) => Ok(host),
            Ok((None, _)) => Err("admin_http_hosts has an empty name; leave it out".to_owned()),
            Err(why) => Err(format!("admin_http_hosts: {why}")),
        });
        let actions = options.admin_http_actions.unwrap_or_default();
        Ok(Some(Self { place, actions, hosts: hosts.collect::<Result<_, _>>()? }))
    }

    /// What its operator should know, and may not have meant.
    pub(crate) fn warning(&self) -> Option<String> {
        (!self.place.is_near()).then(|| {
            format!(
                "admin_http is {}, which other machines reach: metrics are for everybody there, and the live page's \
                 token travels unencrypted; put it on 127.0.0.1 behind a server that speaks TLS",
                self.place
            )
        })
    }

    /// # Errors
    /// One sentence that names the place and what to do.
    pub(crate) fn bind(&self) -> Result<Bound, String> {
        Bound::bind_as(&self.place, Binding { option: "--admin-http", mode: OWN })
    }
}

/// A port alone is this machine's own: nobody else is to see this unless somebody says so.
fn place(text: &str) -> Result<Option<Place>, String> {
    let wrong = || {
        format!(
            "`{text}` is no place for admin_http; write PORT or :PORT (of 127.0.0.1), ADDRESS:PORT, unix:PATH or none"
        )
    };
    if text == "none" {
        return Ok(None);
    }
    if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse() {
        return Ok(Some(Place::loopback(port)));
    }
    let has_port = text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if !has_port && !text.starts_with("unix:") {
        return Err(wrong());
    }
    text.parse().map(Some).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_of_this_machine() {
        for (text, shown) in [
            ("9090", "127.0.0.1:9090"),
            (":9090", "127.0.0.1:9090"),
            ("localhost:9090", "127.0.0.1:9090"),
            ("[::1]:9090", "[::1]:9090"),
            ("0.0.0.0:9090", "0.0.0.0:9090"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
        ] {
            assert_eq!(place(text).unwrap().unwrap().to_string(), shown, "{text}");
        }
        assert_eq!(place("none"), Ok(None));
    }

    #[test]
    fn what_is_no_place_is_refused_with_what_can_be_written() {
        for text in ["", "127.0.0.1", "[::1]", "localhost", "example.org:80", "unix:", "yes", "99999"] {
            assert!(place(text).unwrap_err().contains("unix:PATH or none"), "{text}");
        }
    }

    #[test]
    fn hosts_are_names_without_ports() {
        let of = |host: &str| {
            Wanted::of(&PoolOptions {
                admin_http: Some("9090".into()),
                admin_http_hosts: Some(vec![host.into()]),
                ..PoolOptions::default()
            })
        };
        assert_eq!(of("Pool.Example.").unwrap().unwrap().hosts, ["pool.example"]);
        assert_eq!(of("none").unwrap().unwrap().hosts, [""; 0]);
        assert!(of("pool.example:80").unwrap_err().starts_with("admin_http_hosts: "));
        assert_eq!(Wanted::of(&PoolOptions::default()), Ok(None));
    }
}
