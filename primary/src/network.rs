//! Where else the gateway can be reached: `network.json` in the state folder.
//!
//! Loopback speaks plain HTTP and is always there. Any other address is served with TLS, and there is no
//! setting that says otherwise.

use std::net::SocketAddr;

use plexus_shared::state_dir::{StateDir, StateDirError};
use serde::Serialize;
use serde_json::Value;

use crate::settings::{InvalidSetting, SettingsError, document};

/// The file, in the state folder.
pub const NETWORK: &str = "network.json";

const MAX_LISTED: usize = 32;
const MAX_TEXT: usize = 300;

/// What the owner opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Addresses to listen on, beside the loopback port.
    pub listen: Vec<SocketAddr>,
    /// Authorities that requests may name beside the bound ones: `gateway.home:7077`.
    pub allowed_hosts: Vec<String>,
    /// Origins that pages may have beside our own: `https://console.home`.
    pub allowed_origins: Vec<String>,
}

/// How an address is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Wire {
    /// Plain HTTP: it never leaves the machine.
    Plain,
    /// TLS.
    Tls,
}

impl Wire {
    /// How `address` is served. Only loopback is plain.
    pub fn of(address: &SocketAddr) -> Self {
        // `::ffff:127.0.0.1` is loopback too.
        if address.ip().to_canonical().is_loopback() { Self::Plain } else { Self::Tls }
    }

    /// The scheme of its URLs.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Plain => "http",
            Self::Tls => "https",
        }
    }
}

impl Network {
    /// Reads a whole document.
    ///
    /// # Errors
    /// The first member that can't be.
    pub fn parse(document: &Value) -> Result<Self, InvalidSetting> {
        let Value::Object(members) = document else {
            return Err(InvalidSetting::new("$", "the document is not an object"));
        };
        let mut network = Self::default();
        for (name, value) in members {
            match name.as_str() {
                "listen" => network.listen = list(name, value, address)?,
                "allowedHosts" => network.allowed_hosts = list(name, value, authority)?,
                "allowedOrigins" => network.allowed_origins = list(name, value, origin)?,
                _ => {
                    return Err(InvalidSetting::new(
                        name,
                        "there is no such setting; `plexus network` lists them",
                    ));
                }
            }
        }
        let everywhere = network.listen.iter().any(|address| address.ip().is_unspecified());
        if everywhere && network.allowed_hosts.is_empty() {
            let reason = "who listens on every address names in allowedHosts what it is called, \
                          such as \"192.168.1.5:7443\"";
            return Err(InvalidSetting::new("listen", reason));
        }
        Ok(network)
    }

    /// The names a certificate of this gateway bears: hosts without their ports.
    pub fn names(&self) -> Vec<String> {
        let bound = self.listen.iter().filter(|address| !address.ip().is_unspecified());
        let bound = bound.map(|address| address.ip().to_string());
        let allowed = self.allowed_hosts.iter().map(|host| host_of(host).to_owned());
        let local = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut names: Vec<_> = local.into_iter().chain(bound).chain(allowed).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// `host:port`, `[v6]:port` or `host` without its port.
fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

fn list<T>(
    path: &str,
    value: &Value,
    read: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<Vec<T>, InvalidSetting> {
    let items = value.as_array().filter(|items| items.len() <= MAX_LISTED).ok_or_else(|| {
        InvalidSetting::new(path, format!("it is a list of at most {MAX_LISTED} texts"))
    })?;
    let item = |(n, item): (usize, &Value)| {
        let text = item.as_str().filter(|text| text.len() <= MAX_TEXT).unwrap_or_default();
        read(text).map_err(|reason| InvalidSetting::new(format!("{path}[{n}]"), reason))
    };
    items.iter().enumerate().map(item).collect()
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "it is an address and a port, such as \"192.168.1.5:7443\"")
}

fn authority(text: &str) -> Result<String, &'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte);
    let host = host_of(text);
    let ported = text.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_ok());
    if host.is_empty() || !text.bytes().all(plain) || !ported {
        return Err("it is a host, with its port if it has one, such as \"gateway.home:7443\"");
    }
    Ok(text.to_ascii_lowercase())
}

fn origin(text: &str) -> Result<String, &'static str> {
    let wrong = "it is a scheme and a host, such as \"https://console.home\"";
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.ok_or(wrong).and_then(authority).map_err(|_| wrong)?;
    Ok(text.to_ascii_lowercase())
}

/// Reads what the owner opened.
///
/// # Errors
/// See [`SettingsError`].
pub fn load(dir: &StateDir) -> Result<Network, SettingsError> {
    let Some(document) = document(dir, NETWORK)? else { return Ok(Network::default()) };
    Network::parse(&document).map_err(|fault| SettingsError::Invalid { file: NETWORK, fault })
}

/// Keeps `network` for the next start.
///
/// # Errors
/// When the file can't be written; the old one then stands.
pub fn save(dir: &StateDir, network: &Network) -> Result<(), StateDirError> {
    let mut text = serde_json::to_vec_pretty(network).unwrap_or_default();
    text.push(b'\n');
    dir.write(NETWORK, &text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    #[test]
    fn only_loopback_is_plain() {
        for plain in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(Wire::of(&plain.parse().unwrap()), Wire::Plain, "{plain}");
        }
        for open in ["0.0.0.0:1", "[::]:1", "192.168.1.5:1", "[fe80::1]:1", "[::ffff:10.0.0.1]:1"] {
            assert_eq!(Wire::of(&open.parse().unwrap()), Wire::Tls, "{open}");
        }
    }

    #[test]
    fn a_document_is_read_whole_or_refused_by_its_path() {
        let document = json!({
            "listen": ["192.168.1.5:7443", "[::1]:7077"],
            "allowedHosts": ["Gateway.home:7443"],
            "allowedOrigins": ["https://console.home"],
        });
        let network = Network::parse(&document).unwrap();
        assert_eq!(network.allowed_hosts, ["gateway.home:7443"]);
        let names = ["127.0.0.1", "192.168.1.5", "::1", "gateway.home", "localhost"];
        assert_eq!(network.names(), names);
        assert_eq!(Network::parse(&json!(network)).unwrap(), network);
        let wrong = [
            (json!({"listen": ["gateway.home:7077"]}), "listen[0]"),
            (json!({"listen": "127.0.0.1:7077"}), "listen"),
            (json!({"listen": ["0.0.0.0:7077"]}), "listen"),
            (json!({"allowedHosts": ["a b"]}), "allowedHosts[0]"),
            (json!({"allowedHosts": ["*"]}), "allowedHosts[0]"),
            (json!({"allowedHosts": [7]}), "allowedHosts[0]"),
            (json!({"allowedOrigins": ["null"]}), "allowedOrigins[0]"),
            (json!({"allowedOrigins": ["https://a/b"]}), "allowedOrigins[0]"),
            (json!({"tls": false}), "tls"),
        ];
        for (document, path) in wrong {
            assert_eq!(Network::parse(&document).unwrap_err().path, path, "{document}");
        }
    }
}
