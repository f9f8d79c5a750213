//! Which addresses may be called?
//!
//! Looked at when a connection is made, by the address that the name led to: a name can lead anywhere, and elsewhere tomorrow.
//! Numbers in every spelling become the same address there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far a provider's name may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// To addresses of the public network.
    Public,
    /// To those of this machine and of private networks as well.
    Private,
}

impl Reach {
    /// How far a host may lead when nobody said: an address that is written out, or this machine's own name, was meant as it
    /// stands; a name may lead to the public network alone.
    #[must_use]
    pub fn of(host: &str) -> Self {
        let written_out = host.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost");
        if written_out { Self::Private } else { Self::Public }
    }

    /// Whether an address may be called. Those that hand out secrets of the machine (169.254.169.254 and its like), that name
    /// nobody or everybody, or that wrap another address are never called.
    #[must_use]
    pub fn allows(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.allows_v4(address),
            IpAddr::V6(address) => match address.to_ipv4_mapped() {
                Some(inner) => self.allows_v4(inner),
                None => self.allows_v6(address),
            },
        }
    }

    fn allows_v4(self, address: Ipv4Addr) -> bool {
        let [a, b, c, d] = address.octets();
        let never = a == 0
            || a >= 224
            || address.is_link_local()
            // Metadata services of clouds on addresses that are otherwise shared or private.
            || [a, b, c, d] == [100, 100, 100, 200]
            || [a, b, c, d] == [168, 63, 129, 16]
            || [a, b, c] == [192, 0, 0]
            // 6to4 relays.
            || [a, b, c] == [192, 88, 99];
        let special = address.is_loopback()
            || address.is_private()
            || (a == 100 && (64..128).contains(&b))
            || (a == 198 && (18..20).contains(&b))
            || address.is_documentation();
        !never && (self == Self::Private || !special)
    }

    fn allows_v6(self, address: Ipv6Addr) -> bool {
        let first = address.segments().first().copied().unwrap_or_default();
        let second = address.segments().get(1).copied().unwrap_or_default();
        let wraps = first == 0x2002
            || (first == 0x64 && second == 0xff9b)
            || (first == 0x2001 && second == 0)
            || (address.to_ipv4().is_some() && !address.is_loopback());
        let never = wraps
            || address.is_unspecified()
            || address.is_multicast()
            || first & 0xffc0 == 0xfe80
            || first & 0xffc0 == 0xfec0
            || address == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
        let special = address.is_loopback()
            || first & 0xfe00 == 0xfc00
            || (first == 0x2001 && second == 0xdb8)
            || (first == 0x100 && second == 0);
        !never && (self == Self::Private || !special)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    #[test]
    fn secrets_of_machines_are_never_reached_however_they_are_spelt() {
        for address in [
            "169.254.169.254",
            "169.254.170.2",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "::",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::",
            "2001:0:a9fe::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "240.0.0.1",
            "192.88.99.1",
        ] {
            let address = address.parse().unwrap();
            assert!(!Reach::Public.allows(address) && !Reach::Private.allows(address), "{address}");
        }
    }

    #[test]
    fn private_networks_are_reached_only_where_that_was_said() {
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "fc00::1",
            "fd12::1",
            "2001:db8::1",
            "192.0.2.1",
        ] {
            let address = address.parse().unwrap();
            assert!(!Reach::Public.allows(address) && Reach::Private.allows(address), "{address}");
        }
        for address in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111"] {
            assert!(Reach::Public.allows(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn what_is_written_out_is_meant_and_a_name_is_not() {
        assert_eq!(
            (Reach::of("10.0.0.7"), Reach::of("LOCALHOST"), Reach::of("::1")),
            (Reach::Private, Reach::Private, Reach::Private)
        );
        // Numbers that the system would read as addresses are names here.
        for host in ["models.example", "2130706433", "0x7f.1", "0177.0.0.1"] {
            assert_eq!(Reach::of(host), Reach::Public, "{host}");
        }
    }
}
