//! Ports on loopback for servers that tests start as programs of their own, and that have to be told where to listen.
//!
//! A port that is found by listening on port 0 and given back is one of those that the kernel gives to outgoing connections, too: until
//! the program listens on it, any connection of any other test may have taken it.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    sync::{Mutex, PoisonError},
};

/// Below those that the kernel gives to connections (32,768 and up unless it is told otherwise).
const PORTS: Range<u16> = 20_000..32_000;

/// A port of 127.0.0.1 that nobody listens on, that no connection takes, and that this process was not given before.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let random = RandomState::new().build_hasher().finish();
        let span = u64::from(PORTS.end - PORTS.start);
        let Ok(offset) = u16::try_from(random % span) else { continue };
        let port = PORTS.start + offset;
        let is_new = GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
        if is_new && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_given_once() {
        let ports: Vec<u16> = (0..200).map(|_| free_port()).collect();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len());
        assert!(ports.iter().all(|port| PORTS.contains(port)));
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
        assert!((0..200).all(|_| free_port() != held.local_addr().unwrap().port()));
    }
}
