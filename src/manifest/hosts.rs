//! Host patterns of the HTTP allowlists, and address ranges.

use std::net::IpAddr;

use url::Host;

/// A host that may be reached: an exact host or `*.suffix` (one or more labels), each with an optional `:port`.
///
/// Compared without regard to case, in punycode and without a trailing dot; numeric IPv4 forms are the address they
/// stand for, as in URLs. Without a port, any port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    text: String,
    host: HostPart,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPart {
    /// As `url::Url::host_str` gives it, brackets of an IPv6 address included.
    Exact(String),
    /// What follows the `*`, the dot included: `.example.org`.
    Below(String),
}

impl HostPattern {
    /// Reads a pattern; the error says what is wrong with it, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > 300 {
            return Err("a host of at most 253 characters with an optional port".to_owned());
        }
        let (host, port) = split_port(text)?;
        let host = match host.strip_prefix("*.") {
            Some(suffix) => match parse_host(suffix)? {
                Host::Domain(name) => HostPart::Below(format!(".{name}")),
                Host::Ipv4(_) | Host::Ipv6(_) => return Err("a name after `*.`, not an address".to_owned()),
            },
            None if host == "*" => return Err("a host or `*.suffix`; a lone `*` would allow every host".to_owned()),
            None => HostPart::Exact(parse_host(host)?.to_string()),
        };
        Ok(HostPattern { text: text.to_owned(), host, port })
    }

    /// Whether a URL's host, as `url::Url::host_str` gives it, and port are meant.
    pub fn matches(&self, host: &str, port: u16) -> bool {
        if self.port.is_some_and(|own| own != port) {
            return false;
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        match &self.host {
            HostPart::Exact(own) => own.eq_ignore_ascii_case(host),
            HostPart::Below(suffix) => is_below(suffix, host),
        }
    }

    /// Whether every host and port that `other` names is named by this pattern too.
    pub fn covers(&self, other: &HostPattern) -> bool {
        if self.port.is_some() && self.port != other.port {
            return false;
        }
        match (&self.host, &other.host) {
            (HostPart::Exact(own), HostPart::Exact(host)) => own == host,
            (HostPart::Exact(_), HostPart::Below(_)) => false,
            (HostPart::Below(suffix), HostPart::Exact(host)) => is_below(suffix, host),
            (HostPart::Below(suffix), HostPart::Below(other)) => other.ends_with(suffix.as_str()),
        }
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Whether `host` has at least one label before `suffix` (which starts with a dot).
fn is_below(suffix: &str, host: &str) -> bool {
    let Some(at) = host.len().checked_sub(suffix.len()) else { return false };
    match (host.get(..at), host.get(at..)) {
        (Some(labels), Some(end)) => !labels.is_empty() && !labels.ends_with('.') && end.eq_ignore_ascii_case(suffix),
        _ => false,
    }
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = match text.rsplit_once(':') {
        // A colon inside the brackets of an IPv6 address is none of a port's.
        Some((_, rest)) if rest.ends_with(']') => (text, None),
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err("a host without scheme; an IPv6 address stands in brackets".to_owned());
    }
    let Some(port) = port else { return Ok((host, None)) };
    let number = if port.bytes().all(|b| b.is_ascii_digit()) { port.parse().ok().filter(|n| *n != 0) } else { None };
    match number {
        Some(number) => Ok((host, Some(number))),
        None => Err("a port from 1 to 65535 after the colon".to_owned()),
    }
}

fn parse_host(text: &str) -> Result<Host<String>, String> {
    let expected = "a host such as api.example.com, or *.example.com";
    // The URL parser decodes percent signs; a pattern says what it means.
    if text.contains(['%', '*']) {
        return Err(expected.to_owned());
    }
    match Host::parse(text).map_err(|e| format!("{expected} ({e})"))? {
        // Here the full stops of other scripts are dots too. One at the end says nothing.
        Host::Domain(name) => match name.strip_suffix('.').unwrap_or(&name) {
            name if name.split('.').any(str::is_empty) => Err(expected.to_owned()),
            name => Ok(Host::Domain(name.to_owned())),
        },
        address => Ok(address),
    }
}

/// A range of IP addresses, `127.0.0.0/8`; an address alone is a range of one.
///
/// An IPv4 address that is mapped into IPv6 (`::ffff:127.0.0.1`) is the IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpRange {
    first: IpAddr,
    prefix: u8,
}

impl IpRange {
    /// Reads a range; the error says what is wrong with it, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || "an address range such as 127.0.0.0/8 or fd00::/8".to_owned();
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) if !prefix.is_empty() && prefix.len() <= 3 && prefix.bytes().all(|b| b.is_ascii_digit()) => {
                (address, Some(prefix.parse::<u8>().map_err(|_| expected())?))
            }
            Some(_) => return Err(expected()),
            None => (text, None),
        };
        let mut first: IpAddr = address.parse().map_err(|_| expected())?;
        let bits = if first.is_ipv4() { 32 } else { 128 };
        let mut prefix = prefix.unwrap_or(bits);
        if prefix > bits {
            return Err(format!("a prefix of at most {bits} bits"));
        }
        if let (IpAddr::V6(v6), 96..) = (first, prefix)
            && let Some(v4) = v6.to_ipv4_mapped()
        {
            (first, prefix) = (IpAddr::V4(v4), prefix - 96);
        }
        let range = IpRange { first, prefix };
        if range.network(first) != range.network_bits() {
            return Err("an address range whose bits past the prefix are zero".to_owned());
        }
        Ok(range)
    }

    /// Whether the address lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && self.network(address) == self.network_bits()
    }

    fn network(&self, address: IpAddr) -> u128 {
        let width = if self.first.is_ipv4() { 32 } else { 128 };
        let host_bits = width - u32::from(self.prefix);
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        number(address) & mask
    }

    fn network_bits(&self) -> u128 {
        number(self.first)
    }
}

impl std::fmt::Display for IpRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, url: &str) -> bool {
        let url = url::Url::parse(url).unwrap();
        HostPattern::parse(pattern).unwrap().matches(url.host_str().unwrap(), url.port_or_known_default().unwrap())
    }

    #[test]
    fn a_pattern_means_what_a_url_reaches() {
        for (pattern, url) in [
            ("api.example.com", "https://API.Example.com/x"),
            ("API.EXAMPLE.COM.", "https://api.example.com/"),
            ("api.example.com", "https://api.example.com./"),
            ("*.example.org", "http://a.b.example.org:81/"),
            ("localhost:8080", "http://localhost:8080/"),
            ("example.com:443", "https://example.com/"),
            ("example.com\u{3002}", "https://example.com/"),
            ("example.com", "https://example\u{3002}com\u{ff0e}/"),
            ("bücher.example", "https://xn--bcher-kva.example/"),
            ("*.xn--bcher-kva.example", "https://www.BÜCHER.example/"),
            ("[::1]:8080", "http://[0:0::1]:8080/"),
            ("[::1]", "http://[::1]/"),
            ("2130706433", "http://127.0.0.1/"),
            ("127.0.0.1", "http://0177.0.0.1/"),
            ("0x7f.1", "http://2130706433/"),
        ] {
            assert!(matches(pattern, url), "{pattern} {url}");
        }
    }

    #[test]
    fn a_pattern_means_nothing_else() {
        for (pattern, url) in [
            ("api.example.com", "https://api.example.com.evil.org/"),
            ("example.com", "https://api.example.com/"),
            ("*.example.org", "https://example.org/"),
            ("*.example.org", "https://badexample.org/"),
            ("*.example.org", "https://example.org.evil/"),
            ("localhost:8080", "http://localhost:8081/"),
            ("localhost:8080", "http://localhost/"),
            ("example.com", "https://example.com@evil.org/"),
            ("127.0.0.1", "http://127.0.0.2/"),
            ("[::1]", "http://[::2]/"),
            ("*.example.org", "https://example。org/"),
        ] {
            assert!(!matches(pattern, url), "{pattern} {url}");
        }
        assert!(!HostPattern::parse("*.example.org").unwrap().matches(".example.org", 80));
        assert!(!HostPattern::parse("*.ü.example").unwrap().matches("aé.example", 80));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in [
            "",
            "*",
            "*.",
            "*.*.example.org",
            "a.*.org",
            "http://a.org",
            "a.org/x",
            "a b",
            "a.org:",
            "a.org:0",
            "a.org:65536",
            "a.org:+80",
            "::1",
            "[::1",
            "::1]",
            "[::1]x",
            "*.1.2.3.4",
            "*.[::1]",
            "a..b",
            "a.\u{3002}b",
            "a\u{3002}.",
            "a..",
            "1.2.3.4..",
            "\u{3002}",
            ".a",
            "a%2eb",
            "user@a.org",
            "a:b:80",
            "\0",
            "a\n",
            "1.2.3.4.5",
            "256.1.1.1",
            "*.4",
            "a.org?x",
            "a.org#x",
            "\u{ad}",
        ] {
            assert!(HostPattern::parse(bad).is_err(), "{bad:?} was taken");
        }
        assert!(HostPattern::parse(&"a".repeat(1 << 20)).is_err());
    }

    #[test]
    fn covering_is_by_host_and_port() {
        let covers = |a: &str, b: &str| HostPattern::parse(a).unwrap().covers(&HostPattern::parse(b).unwrap());
        for (a, b) in [
            ("a.org", "A.org."),
            ("a.org", "a.org:80"),
            ("*.a.org", "b.a.org"),
            ("*.a.org", "*.b.a.org"),
            ("*.a.org", "*.a.org:8"),
            ("*.a.org:8", "b.a.org:8"),
        ] {
            assert!(covers(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("a.org:80", "a.org"),
            ("a.org:80", "a.org:81"),
            ("*.a.org", "a.org"),
            ("b.a.org", "*.a.org"),
            ("*.b.a.org", "*.a.org"),
            ("*.a.org", "*.ba.org"),
            ("*.a.org:8", "b.a.org"),
        ] {
            assert!(!covers(a, b), "{a} {b}");
        }
    }

    #[test]
    fn covering_is_an_order_and_agrees_with_matching() {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut below = |n: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 11) as usize % n
        };
        let mut pattern = || {
            let mut text = ["", "", "*."][below(3)].to_owned();
            for _ in 0..below(4) {
                text += ["a.", "B.", "ba.", "ü.", "x\u{3002}"][below(5)];
            }
            text += ["a", "org", "ORG.", "1.2.3.4", "[::1]", ""][below(6)];
            text += ["", ":80", ":443"][below(3)];
            text
        };
        let (mut taken, mut covered) = (0, 0);
        for _ in 0..20_000 {
            let texts = [pattern(), pattern(), pattern()];
            let [Ok(a), Ok(b), Ok(c)] = texts.each_ref().map(|text| HostPattern::parse(text)) else { continue };
            taken += 1;
            assert!(a.covers(&a), "{texts:?}");
            assert!(!(a.covers(&b) && b.covers(&c)) || a.covers(&c), "{texts:?}");
            let HostPart::Exact(host) = &b.host else { continue };
            let ports = b.port.map_or(vec![80, 443, 8080], |port| vec![port]);
            assert_eq!(a.covers(&b), ports.iter().all(|port| a.matches(host, *port)), "{texts:?}");
            covered += usize::from(a.covers(&b));
        }
        assert!(taken > 2_000 && covered > 100, "{taken} {covered}");
    }

    #[test]
    fn ranges_hold_their_addresses_mapped_ones_too() {
        let contains = |range: &str, address: &str| IpRange::parse(range).unwrap().contains(address.parse().unwrap());
        for (range, address) in [
            ("127.0.0.0/8", "127.255.0.1"),
            ("127.0.0.0/8", "::ffff:127.0.0.1"),
            ("::ffff:10.0.0.0/104", "10.1.2.3"),
            ("10.1.2.3", "10.1.2.3"),
            ("0.0.0.0/0", "255.255.255.255"),
            ("fd00::/8", "fdff::1"),
            ("::/0", "2001:db8::1"),
            ("::1/128", "::1"),
        ] {
            assert!(contains(range, address), "{range} {address}");
        }
        for (range, address) in
            [("127.0.0.0/8", "128.0.0.1"), ("fd00::/8", "fe00::1"), ("::/0", "1.2.3.4"), ("0.0.0.0/0", "::1"), ("10.1.2.3/32", "10.1.2.4")]
        {
            assert!(!contains(range, address), "{range} {address}");
        }
        for bad in [
            "",
            "x",
            "127.0.0.0/33",
            "::/129",
            "127.0.0.1/8",
            "1.2.3.4/",
            "1.2.3.4/-1",
            "1.2.3.4/256",
            "1.2.3.4/+8",
            "fd00::1/8",
            "1.2.3/24",
        ] {
            assert!(IpRange::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
