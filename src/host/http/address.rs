//! Which addresses are public: what a name of the allowlist may lead to without a word of the policy's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::manifest::IpRange;

/// Whether a plugin may be connected to this address: it is public, or in a range that the policy grants.
pub(super) fn permitted(address: IpAddr, granted: &[IpRange]) -> bool {
    let address = meant(address);
    is_public(address) || granted.iter().any(|range| range.contains(address))
}

/// An IPv4 address that is written as an IPv6 one, mapped or for a NAT64 gateway, is judged as what it leads to.
fn meant(address: IpAddr) -> IpAddr {
    let address = address.to_canonical();
    match address {
        IpAddr::V6(v6) => match v6.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => IpAddr::V4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))),
            _ => address,
        },
        IpAddr::V4(_) => address,
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// By IANA's registry of special addresses: this network, private, carriers' NAT, loopback, link-local, protocol assignments,
/// documentation, relays of 6to4, benchmarks, multicast, reserved and broadcast.
fn is_public_v4(v4: Ipv4Addr) -> bool {
    !matches!(
        v4.octets(),
        [0 | 10 | 127, ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [192, 168, ..]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
            | [224..=255, ..]
    )
}

/// Global unicast is 2000::/3. In it are no public addresses: protocol assignments (2001::/23, Teredo among them),
/// documentation, and 6to4, whose addresses hold an IPv4 address each. Outside of it are loopback, link-local, unique local,
/// multicast, IPv4-compatible, and whatever may come.
fn is_public_v6(v6: Ipv6Addr) -> bool {
    match v6.segments() {
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_not_public_in_any_form() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "::ffff:0:8.8.8.8",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:0:53aa:64c:0:1:f5ff:fffe",
            "2001:2::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ] {
            assert!(!permitted(address.parse().unwrap(), &[]), "{address}");
        }
        for address in ["1.1.1.1", "100.63.0.1", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1", "198.20.0.1", "223.255.255.255"] {
            assert!(permitted(address.parse().unwrap(), &[]), "{address}");
            assert!(permitted(format!("::ffff:{address}").parse().unwrap(), &[]), "{address}");
            assert!(permitted(format!("64:ff9b::{address}").parse().unwrap(), &[]), "{address}");
        }
        for address in ["2606:4700::1111", "2001:4860:4860::8888", "2a00::1", "3ffe::1"] {
            assert!(permitted(address.parse().unwrap(), &[]), "{address}");
        }
    }

    #[test]
    fn a_granted_range_is_granted_in_every_form_and_nothing_beside_it() {
        let granted = [IpRange::parse("10.0.0.0/8").unwrap(), IpRange::parse("fd00::/16").unwrap()];
        for address in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd00::1"] {
            assert!(permitted(address.parse().unwrap(), &granted), "{address}");
        }
        for address in ["127.0.0.1", "::10.1.2.3", "2002:a01:203::", "fd01::1", "::1"] {
            assert!(!permitted(address.parse().unwrap(), &granted), "{address}");
        }
    }
}
