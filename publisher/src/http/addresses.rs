//! Who is connected from where: no address takes all places.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// How many places each address has taken.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
    proxies: Arc<[IpNet]>,
}

/// One place of an address, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().expect("no holder of this lock panics");
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

impl Addresses {
    /// At most so many places an address, but for this machine's. Of these networks are the proxies.
    pub(crate) fn new(most: usize, proxies: &[IpNet]) -> Addresses {
        Addresses {
            taken: Arc::default(),
            most,
            proxies: proxies.into(),
        }
    }

    /// Whether this one asks for others.
    pub(crate) fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&address))
    }

    /// Who asks: the peer, or whom a configured proxy names. Of several names the last that is no proxy's, since those
    /// before it are only what that one said.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        let values: Vec<&str> = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let mut names = values.iter().flat_map(|value| value.split(',')).rev();
        while self.is_proxy(client) {
            let Some(named) = names.next().and_then(|name| name.trim().parse::<IpAddr>().ok()) else {
                break;
            };
            client = named.to_canonical();
        }
        client
    }

    /// A place for this address; `None` if it has enough.
    pub(crate) fn place(&self, address: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock().expect("no holder of this lock panics");
        let count = taken.entry(address).or_default();
        if *count >= self.most && !address.is_loopback() {
            return None;
        }
        *count += 1;
        drop(taken);
        Some(Place {
            taken: self.taken.clone(),
            address,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_a_configured_proxy_is_believed() {
        let addresses = Addresses::new(1, &["10.0.0.0/8".parse().unwrap()]);
        let client = |peer: &str, forwarded: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(FORWARDED_FOR, HeaderValue::from_str(forwarded).unwrap());
            addresses.client(peer.parse().unwrap(), &headers).to_string()
        };
        assert_eq!(client("192.0.2.1", "198.51.100.7"), "192.0.2.1");
        assert_eq!(client("10.0.0.1", "198.51.100.7"), "198.51.100.7");
        assert_eq!(
            client("10.0.0.1", "203.0.113.9, 198.51.100.7, 10.0.0.2"),
            "198.51.100.7"
        );
        assert_eq!(client("10.0.0.1", "::ffff:198.51.100.7"), "198.51.100.7");
        assert_eq!(client("10.0.0.1", "nonsense"), "10.0.0.1");
        assert_eq!(client("10.0.0.1", ""), "10.0.0.1");
    }

    #[test]
    fn an_address_has_so_many_places() {
        let addresses = Addresses::new(2, &[]);
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let first = addresses.place(address).unwrap();
        let _second = addresses.place(address).unwrap();
        assert!(addresses.place(address).is_none());
        assert!(addresses.place("192.0.2.2".parse().unwrap()).is_some());
        drop(first);
        assert!(addresses.place(address).is_some());
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        let many: Vec<_> = (0..9).filter_map(|_| addresses.place(local)).collect();
        assert_eq!(many.len(), 9);
    }
}
