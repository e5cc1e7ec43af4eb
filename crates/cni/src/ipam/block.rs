//! A block of addresses as a bitmap.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// A block. Network and broadcast address are never given, for the sake of programs that dislike them.
#[derive(Debug, Clone)]
pub(super) struct Block {
    network: Ipv4Net,
    /// One bit per address, set when it is taken.
    taken: Vec<u64>,
    free: usize,
}

impl Block {
    pub(super) fn new(network: Ipv4Net) -> Self {
        let network = network.trunc();
        let size = 1_usize << (32 - network.prefix_len());
        let mut block = Self { network, taken: vec![0; size.div_ceil(64)], free: size };
        // Blocks of one or two addresses (RFC 3021) have neither.
        if size > 2 {
            block.take(network.network());
            block.take(network.broadcast());
        }
        block
    }

    pub(super) fn network(&self) -> Ipv4Net {
        self.network
    }

    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// The first free address behind `behind`, or the first of all.
    pub(super) fn find_free(&self, behind: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let start = behind.and_then(|address| self.index(address)).map_or(0, |index| index + 1);
        let mut word = start / 64;
        // The bits before the start count as taken in the first word.
        let mut mask = (1_u64 << (start % 64)).wrapping_sub(1);
        while let Some(bits) = self.taken.get(word) {
            let free = !(bits | mask);
            if free != 0 {
                return self.address(word * 64 + free.trailing_zeros() as usize);
            }
            mask = 0;
            word += 1;
        }
        None
    }

    /// Marks an address as taken; others are ignored.
    pub(super) fn take(&mut self, address: Ipv4Addr) {
        if let Some((word, bit)) = self.position(address)
            && *word & bit == 0
        {
            *word |= bit;
            self.free -= 1;
        }
    }

    /// Marks an address as free; others are ignored.
    pub(super) fn put_back(&mut self, address: Ipv4Addr) {
        let reserved = self.is_reserved(address);
        if let Some((word, bit)) = self.position(address)
            && *word & bit != 0
            && !reserved
        {
            *word &= !bit;
            self.free += 1;
        }
    }

    fn is_reserved(&self, address: Ipv4Addr) -> bool {
        self.network.prefix_len() < 31
            && (address == self.network.network() || address == self.network.broadcast())
    }

    fn position(&mut self, address: Ipv4Addr) -> Option<(&mut u64, u64)> {
        let index = self.index(address)?;
        self.taken.get_mut(index / 64).map(|word| (word, 1 << (index % 64)))
    }

    fn index(&self, address: Ipv4Addr) -> Option<usize> {
        if !self.network.contains(&address) {
            return None;
        }
        usize::try_from(u32::from(address) - u32::from(self.network.network())).ok()
    }

    /// The last word may have bits behind the end of a small block.
    fn address(&self, index: usize) -> Option<Ipv4Addr> {
        let address = u32::from(self.network.network()).checked_add(u32::try_from(index).ok()?)?;
        Some(Ipv4Addr::from(address)).filter(|address| self.network.contains(address))
    }
}
