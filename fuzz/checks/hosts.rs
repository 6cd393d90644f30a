//! Host patterns and address ranges, one a line: what a pattern covers, what it matches, and that the two agree.

use flowplug::manifest::{HostPattern, IpRange};
use url::Url;

/// More lines than this only make one input slow.
const LINES_MAX: usize = 8;

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lines: Vec<&str> = text.split('\n').take(LINES_MAX).collect();
    let patterns: Vec<HostPattern> = lines.iter().filter_map(|line| HostPattern::parse(line).ok()).collect();
    let mut urls: Vec<Url> = Vec::new();
    for pattern in &patterns {
        one(pattern);
        // A host that the pattern means: the pattern itself, or with something for the `*`.
        let named = pattern.as_str().replacen('*', "a.b", 1);
        let url = Url::parse(&format!("http://{named}/")).expect("a pattern is the host of a URL");
        assert!(matches(pattern, &url), "{pattern:?} does not match {url}");
        urls.push(url);
    }
    urls.extend(lines.iter().filter_map(|line| Url::parse(&format!("http://{line}/")).ok()).filter(Url::has_host));
    for a in &patterns {
        for b in patterns.iter().filter(|b| a.covers(b)) {
            for c in patterns.iter().filter(|c| b.covers(c)) {
                assert!(a.covers(c), "{a:?} covers {b:?}, which covers {c:?}");
            }
            for url in urls.iter().filter(|url| matches(b, url)) {
                assert!(matches(a, url), "{a:?} covers {b:?}, which matches {url}");
            }
        }
        // What it matches is what it covers, where a pattern can say it.
        for url in &urls {
            let named = format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
            if let Ok(exact) = HostPattern::parse(&named) {
                assert_eq!(a.covers(&exact), matches(a, url), "{a:?} {url}");
            }
        }
    }
    lines.iter().for_each(|line| range(line));
}

fn matches(pattern: &HostPattern, url: &Url) -> bool {
    pattern.matches(url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

fn one(pattern: &HostPattern) {
    assert!(pattern.covers(pattern));
    let text = pattern.as_str();
    assert_eq!(HostPattern::parse(text).as_ref(), Ok(pattern));
    for same in [text.to_ascii_uppercase(), text.to_ascii_lowercase()] {
        let same = HostPattern::parse(&same).expect("case says nothing");
        assert!(same.covers(pattern) && pattern.covers(&same), "{same:?} {pattern:?}");
    }
    if let Ok(narrower) = HostPattern::parse(&format!("{text}:8443")) {
        assert!(pattern.covers(&narrower) && !narrower.covers(pattern));
    }
}

fn range(text: &str) {
    let Ok(range) = IpRange::parse(text) else { return };
    let address = text.split_once('/').map_or(text, |(address, _)| address);
    assert!(range.contains(address.parse().expect("a range starts with an address")), "{text}");
}
